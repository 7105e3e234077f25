"""What a model sees: inversion, interpolation, visualisation and features of images."""

from notbugs.representations.activations import Channel, Direction, Reach, Strength, Unit
from notbugs.representations.extremes import Extremes, most_activating
from notbugs.representations.interpolate import Interpolation, Path, interpolate, path_of
from notbugs.representations.invert import EmbeddingDistance, inversion, invert, relative_error
from notbugs.representations.inverted import (
    Inverted,
    invert_images,
    quick_inversion,
    usual_inversion,
)
from notbugs.representations.manipulate import (
    Attribute,
    Manipulated,
    add_feature,
    find_attribute,
)
from notbugs.representations.priors import Denoised, Generator, Priors, in_codes
from notbugs.representations.reading import first_images, layer_of
from notbugs.representations.smoothness import FastWaves, TotalVariation
from notbugs.representations.visualise import (
    Visualisation,
    in_pixels,
    in_waves,
    usual_visualisation,
    visualise,
    visualise_directions,
    visualise_layer,
)

__all__ = [
    "usual_inversion",
    "usual_visualisation",
    "TotalVariation",
    "FastWaves",
    "in_codes",
    "Priors",
    "Generator",
    "Denoised",
    "Attribute",
    "Channel",
    "Direction",
    "EmbeddingDistance",
    "Extremes",
    "Interpolation",
    "Inverted",
    "Manipulated",
    "Path",
    "Reach",
    "Strength",
    "Unit",
    "Visualisation",
    "add_feature",
    "find_attribute",
    "first_images",
    "in_pixels",
    "in_waves",
    "interpolate",
    "inversion",
    "invert",
    "invert_images",
    "layer_of",
    "most_activating",
    "path_of",
    "quick_inversion",
    "relative_error",
    "visualise",
    "visualise_directions",
    "visualise_layer",
]
