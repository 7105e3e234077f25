"""Analysis of images, gradients and answers: spectra, patterns, neighbours, calibration."""

from notbugs.analysis.calibration import (
    aurra,
    detection_aupr,
    max_softmax,
    response_rates,
    rms_calibration_error,
)
from notbugs.analysis.checkerboard import Downsampling, checkerboard, downsamplings
from notbugs.analysis.cue_conflict import (
    CueAnswers,
    cue_conflict,
    partners,
    shape_bias,
    silhouettes,
    textures,
)
from notbugs.analysis.lipschitz import amplification, lipschitz_bounds
from notbugs.analysis.natural import Natural, confidence, natural
from notbugs.analysis.neighbours import neighbours
from notbugs.analysis.patterns import PatternResponse, as_pattern, pattern_response
from notbugs.analysis.spectra import (
    Spectrum,
    band_pass,
    fourier_heat_map,
    high_frequency_share,
    input_gradients,
    radial_spectrum,
)

__all__ = [
    "confidence",
    "Natural",
    "natural",
    "textures",
    "silhouettes",
    "shape_bias",
    "partners",
    "cue_conflict",
    "CueAnswers",
    "rms_calibration_error",
    "response_rates",
    "max_softmax",
    "detection_aupr",
    "aurra",
    "Downsampling",
    "PatternResponse",
    "Spectrum",
    "amplification",
    "as_pattern",
    "band_pass",
    "checkerboard",
    "downsamplings",
    "fourier_heat_map",
    "high_frequency_share",
    "input_gradients",
    "lipschitz_bounds",
    "neighbours",
    "pattern_response",
    "radial_spectrum",
]
