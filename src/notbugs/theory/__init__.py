"""Theory in closed form, for the distributions on which it can be had."""

from notbugs.theory.gaussian import (
    Gaussians,
    cost_of_misalignment,
    least_aligned,
    least_alignment,
    robust_fit,
)
from notbugs.theory.linear import AccuracyAtOdds, SampleComplexity, UnusedRobustness
from notbugs.theory.perceptron import TARGETS, first_update, target_chances, turning_points

__all__ = [
    "TARGETS",
    "AccuracyAtOdds",
    "Gaussians",
    "SampleComplexity",
    "UnusedRobustness",
    "cost_of_misalignment",
    "first_update",
    "least_aligned",
    "least_alignment",
    "robust_fit",
    "target_chances",
    "turning_points",
]
