"""Random examples of each training set, with the labels they are trained with."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    SMALL,
    TINY,
    Theme,
    fitted,
    new_figure,
    show,
)
from notbugs.report.reading import Run
from notbugs.report.words import eps_text, math_name, short_text

SHOWN = ("D", "D_R", "D_NR", "D_rand", "D_det", "D_other")
CELL = 0.95
"""Width of a picture with its margin, in inches."""
NAME = 1.35
"""Width of the names of the sets, in inches."""
MOST = 8


def examples(run: Run, theme: Theme = LIGHT) -> Figure:
    """A row of random examples for each set; a column follows one training image."""
    names = sets_with_pictures(run)
    count = min([MOST, *(len(run.samples[f"{n}.images"]) for n in names)])
    figure = new_figure(NAME + CELL * count, 0.1 + 1.22 * len(names), theme)
    draw_examples(figure, run, names, range(count), theme)
    return figure


def sets_with_pictures(run: Run, wanted: Sequence[str] = SHOWN) -> list[str]:
    """The sets of which the run kept pictures."""
    return [name for name in wanted if f"{name}.images" in run.samples]


def draw_examples(
    figure: FigureBase, run: Run, names: Sequence[str], chosen: Sequence[int], theme: Theme
) -> None:
    """Draws the chosen examples of each set on a given (sub)figure."""
    widths = [NAME, *[CELL] * len(chosen)]
    grid = figure.subplots(len(names), len(widths), width_ratios=widths, squeeze=False)
    for name, (first, *cells) in zip(names, grid, strict=True):
        _name(first, name, run, theme)
        for i, ax in zip(chosen, cells, strict=True):
            show(ax, run.samples[f"{name}.images"][i], theme)
            label, true = _labels(run, name, i)
            _caption(ax, run.classes[label], None if true == label else run.classes[true], theme)


def _labels(run: Run, name: str, i: int) -> tuple[int, int]:
    """The label an example is trained with, and its true one."""
    labels = run.samples[f"{name}.labels"]
    true = run.samples.get(f"{name}.true_labels", labels)
    return int(labels[i]), int(true[i])


def _name(ax: Axes, name: str, run: Run, theme: Theme) -> None:
    ax.set_axis_off()
    place = {"ha": "left", "transform": ax.transAxes, "color": theme.ink}
    ax.text(0.0, 0.56, math_name(name), va="bottom", fontsize=LABEL + 4, **place)
    place["color"] = theme.faint
    rows = run.curve(name)
    eps = rows[-1].eps if rows else None
    radius = "" if eps is None else f"\nε = {eps_text(run.norm, eps)}"
    ax.text(0.0, 0.46, short_text(name) + radius, va="top", fontsize=SMALL, **place)


def _caption(ax: Axes, label: str, true: str | None, theme: Theme) -> None:
    """The label above a picture, in a colour if it is wrong, with the true one below."""
    text, size = fitted(label, CELL - 0.12, LABEL)
    wrong = true is not None
    ax.set_title(
        text,
        fontsize=size,
        color=theme.vermillion if wrong else theme.ink,
        fontweight="bold" if wrong else "normal",
        pad=3,
        parse_math=False,
    )
    if true is not None:
        text, size = fitted(f"really: {true}", CELL - 0.06, TINY)
        ax.set_xlabel(text, fontsize=size, color=theme.faint, labelpad=2, parse_math=False)
