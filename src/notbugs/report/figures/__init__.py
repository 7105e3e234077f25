"""The figures of pages and commands, one per file."""

from notbugs.report.figures.comparison import comparison_sheet
from notbugs.report.figures.curves import (
    accuracy_curves,
    budget_sheet,
    distance_histograms,
    loss_curves,
    nearest_sheet,
)
from notbugs.report.figures.style import DARK, LIGHT, Theme, png
from notbugs.report.figures.training import training_sheet

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "accuracy_curves",
    "budget_sheet",
    "comparison_sheet",
    "distance_histograms",
    "loss_curves",
    "nearest_sheet",
    "png",
    "training_sheet",
]
