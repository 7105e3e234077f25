"""Random examples of each training set, with the labels they are trained with."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from notbugs.report.figures.sheet import Sheet, sheet
from notbugs.report.figures.style import LABEL, LIGHT, SMALL, TINY, Theme, new_figure
from notbugs.report.formatting import eps_text, math_name, short_text
from notbugs.report.reading import Run

SHOWN = ("D", "D_R", "D_NR", "D_rand", "D_det", "D_other")
MOST = 8
NAME, SIDE, GAP, LINE = 1.3, 0.86, 0.14, 0.18
"""Inches: the column of names, a picture, the gap beside it, a line of text."""


def examples(run: Run, theme: Theme = LIGHT) -> Figure:
    """A row of random examples for each set; a column follows one training image."""
    names = sets_with_pictures(run)
    chosen = range(min([MOST, *(len(run.samples[f"{n}.images"]) for n in names)]))
    width, height = size_of(run, names, chosen)
    figure = new_figure(width, height, theme)
    draw_examples(sheet(figure, width, height, theme), run, names, chosen)
    return figure


def sets_with_pictures(run: Run) -> list[str]:
    """The sets of which the run kept pictures."""
    parts = ("images", "labels")
    return [n for n in SHOWN if all(f"{n}.{part}" in run.samples for part in parts)]


def size_of(run: Run, names: Sequence[str], chosen: Sequence[int]) -> tuple[float, float]:
    """The width and height in inches that the examples take."""
    width = 0.15 + NAME + len(chosen) * (SIDE + GAP)
    return width, 0.1 + sum(_height(run, name, chosen) for name in names)


def _height(run: Run, name: str, chosen: Sequence[int]) -> float:
    """A row's height: a second line of text only where some label is wrong."""
    pairs = [_labels(run, name, i) for i in chosen]
    return SIDE + 0.08 + (2 * LINE if any(a != b for a, b in pairs) else LINE)


def draw_examples(
    page: Sheet, run: Run, names: Sequence[str], chosen: Sequence[int], top: float = 0.05
) -> None:
    """Draws the chosen examples of each set on a sheet, from `top` inches downwards."""
    for name in names:
        y = top + LINE
        top += _height(run, name, chosen)
        _name(page, run, name, y)
        for column, i in enumerate(chosen):
            x = 0.1 + NAME + column * (SIDE + GAP)
            page.image(run.samples[f"{name}.images"][i], x, y, SIDE)
            label, true = _labels(run, name, i)
            _label(page, run.classes[label], None if true == label else run.classes[true], x, y)


def _labels(run: Run, name: str, i: int) -> tuple[int, int]:
    """The label an example is trained with, and its true one."""
    labels = run.samples[f"{name}.labels"]
    true = run.samples.get(f"{name}.true_labels", labels)
    return int(labels[i]), int(true[i])


def _name(page: Sheet, run: Run, name: str, y: float) -> None:
    rows = run.curve(name)
    eps = rows[-1].eps if rows else None
    radius = "" if eps is None else f"\nε = {eps_text(run.norm, eps)}"
    ink, faint = page.theme.ink, page.theme.faint
    page.text(0.1, y + 0.26, math_name(name), size=LABEL + 4, color=ink)
    words = short_text(name) + radius
    page.text(0.1, y + 0.36, words, size=SMALL, color=faint, va="top", linespacing=1.2)


def _label(page: Sheet, label: str, true: str | None, x: float, y: float) -> None:
    """The label above a picture, in a colour if it is wrong, with the true one below."""
    wrong, middle, theme = true is not None, x + SIDE / 2, page.theme
    color = theme.vermillion if wrong else theme.ink
    page.caption(middle, y - 0.05, label, width=SIDE + 0.08, color=color, bold=wrong)
    if true is not None:
        below = y + SIDE + 0.14
        words = f"really: {true}"
        page.caption(middle, below, words, width=SIDE + 0.1, color=theme.faint, size=TINY)
