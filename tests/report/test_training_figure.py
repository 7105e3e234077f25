"""The picture of a training shows its numbers."""

import pytest

from notbugs.report.figures import png, training_sheet

HISTORY = [
    {"epoch": 1.0, "loss": 2.0, "lr": 0.1, "guard_robust": 10.0},
    {"epoch": 2.0, "loss": 1.0, "lr": 0.1, "val_clean": 90.0, "val_robust": 40.0},
    {"epoch": 3.0, "loss": 0.5, "lr": 0.0, "val_clean": 95.0, "val_robust": 55.0},
]


def lines(figure):
    return {
        line.get_gid(): [tuple(map(float, p)) for p in line.get_xydata()]
        for ax in figure.axes
        for line in ax.get_lines()
        if str(line.get_gid()).startswith("line:")
    }


def test_every_number_is_drawn_once() -> None:
    found = lines(training_sheet(HISTORY))
    assert found == {
        "line:": [(1, 2.0), (2, 1.0), (3, 0.5)],
        "line:clean, held out": [(2, 90.0), (3, 95.0)],
        "line:robust, held out": [(2, 40.0), (3, 55.0)],
        "line:robust, guard": [(1, 10.0)],
    }
    assert png(training_sheet(HISTORY)).startswith(b"\x89PNG")


def test_without_looks_there_is_the_loss_alone() -> None:
    figure = training_sheet([{"epoch": 1.0, "loss": 2.0, "lr": 0.1}])
    assert len(figure.axes) == 1
    assert lines(figure) == {"line:": [(1, 2.0)]}


def test_no_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="`history` must hold at least one epoch"):
        training_sheet([])
