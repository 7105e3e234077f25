"""Theory in closed form, for the distributions on which it can be had."""

from notbugs.theory.gaussian import (
    Gaussians,
    cost_of_misalignment,
    least_aligned,
    least_alignment,
    robust_fit,
)
from notbugs.theory.linear import AccuracyAtOdds, SampleComplexity, UnusedRobustness

__all__ = [
    "AccuracyAtOdds",
    "Gaussians",
    "SampleComplexity",
    "UnusedRobustness",
    "cost_of_misalignment",
    "least_aligned",
    "least_alignment",
    "robust_fit",
]
