"""Analysis of representations: inversion, interpolation, visualisation, manipulation."""

from notbugs.representations.accentuate import Accentuation, accentuate
from notbugs.representations.activations import (
    ActivationNorm,
    Channel,
    Direction,
    TargetActivation,
    Unit,
)
from notbugs.representations.assess import Assessment, assess_visualisations
from notbugs.representations.extremes import Extremes, most_activating
from notbugs.representations.interpolate import Interpolation, Path, interpolate, path_of
from notbugs.representations.invert import EmbeddingDistance, inversion, invert, relative_error
from notbugs.representations.inverted import (
    InversionResult,
    default_inversion_solver,
    invert_images,
    lbfgs_inversion,
)
from notbugs.representations.manipulate import (
    Attribute,
    ManipulationResult,
    add_feature,
    find_attribute,
)
from notbugs.representations.maximise import Visualisation
from notbugs.representations.priors import Denoised, Generator, Priors, latent_solver
from notbugs.representations.reading import first_images, layer_of
from notbugs.representations.smoothness import FrequencyPenalty, TotalVariation
from notbugs.representations.solvers import (
    default_visualisation_solver,
    fourier_solver,
    maco_solver,
    pixel_solver,
)
from notbugs.representations.style import (
    StyleResult,
    gram,
    style_distance,
    style_error,
    style_transfer,
    styles,
)
from notbugs.representations.transparency import faded, opacity
from notbugs.representations.visualise import (
    visualise,
    visualise_directions,
    visualise_layer,
)

__all__ = [
    "default_inversion_solver",
    "default_visualisation_solver",
    "TotalVariation",
    "Accentuation",
    "Assessment",
    "accentuate",
    "assess_visualisations",
    "faded",
    "maco_solver",
    "opacity",
    "FrequencyPenalty",
    "latent_solver",
    "Priors",
    "Generator",
    "Denoised",
    "Attribute",
    "Channel",
    "Direction",
    "EmbeddingDistance",
    "Extremes",
    "Interpolation",
    "InversionResult",
    "ManipulationResult",
    "Path",
    "TargetActivation",
    "ActivationNorm",
    "Unit",
    "Visualisation",
    "add_feature",
    "find_attribute",
    "first_images",
    "pixel_solver",
    "fourier_solver",
    "interpolate",
    "inversion",
    "invert",
    "invert_images",
    "layer_of",
    "most_activating",
    "path_of",
    "lbfgs_inversion",
    "relative_error",
    "StyleResult",
    "gram",
    "style_distance",
    "style_error",
    "style_transfer",
    "styles",
    "visualise",
    "visualise_directions",
    "visualise_layer",
]
