"""The figures of a report, one per file."""

from notbugs.report.figures.adversarial import adversarial
from notbugs.report.figures.bars import bars
from notbugs.report.figures.crossover import crossover
from notbugs.report.figures.curves import (
    accuracy_curves,
    budget_sheet,
    distance_histograms,
    loss_curves,
    nearest_sheet,
)
from notbugs.report.figures.examples import examples
from notbugs.report.figures.style import DARK, LIGHT, Theme, png
from notbugs.report.figures.training import training_sheet

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "accuracy_curves",
    "adversarial",
    "bars",
    "budget_sheet",
    "crossover",
    "distance_histograms",
    "examples",
    "loss_curves",
    "nearest_sheet",
    "png",
    "training_sheet",
]
