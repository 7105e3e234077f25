"""Checks of an attack's goal: true labels to leave, or target classes."""

from torch import Tensor

from notbugs.core.errors import bad_value, check_labels, check_targets


def check_goals(rows: int, classes: int, y: Tensor | None, targets: Tensor | None) -> None:
    """Refuses `y` and `targets` that are invalid, equal in a row, or both missing."""
    for name, labels in (("y", y), ("targets", targets)):
        if labels is not None:
            check_labels(labels, rows=rows, classes=classes, argument=name)
    if y is not None and targets is not None:
        check_targets(targets, y)
    if y is None and targets is None:
        raise bad_value("y", "be given", None, "Pass true labels, or `targets`.")
