"""Theory in closed form, for the distributions on which it can be had."""

from notbugs.theory.gaussian import (
    Gaussians,
    cost_of_misalignment,
    least_aligned,
    least_alignment,
    robust_fit,
)
from notbugs.theory.kernel import tangent_kernel
from notbugs.theory.linear import AccuracyAtOdds, SampleComplexity, UnusedRobustness
from notbugs.theory.perceptron import TARGETS, first_update, target_chances, turning_points
from notbugs.theory.superposition import Toys, attacked, predicted, train_toys

__all__ = [
    "TARGETS",
    "AccuracyAtOdds",
    "Gaussians",
    "SampleComplexity",
    "Toys",
    "UnusedRobustness",
    "attacked",
    "cost_of_misalignment",
    "first_update",
    "least_aligned",
    "least_alignment",
    "predicted",
    "robust_fit",
    "tangent_kernel",
    "target_chances",
    "train_toys",
    "turning_points",
]
