"""Draws the kinds of figures that a paper's page describes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from notbugs.experiments import page
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.report.figures.picture_rows import PictureRow, rows_of_pictures
from notbugs.report.figures.style import (
    LABEL,
    SMALL,
    Theme,
    axes_of,
    fitted,
    legend,
    new_figure,
    plain_axes,
)
from notbugs.report.reading import Arrays

LEGIBLE = 0.55
"""Of the scale, the value above which a matrix's numbers are written in white."""


@dataclass(frozen=True)
class Drawn:
    """What figures are drawn from: the run's numbers and pictures, how columns are written."""

    numbers: Numbers
    pictures: Arrays
    columns: Mapping[str, page.Column]

    def title(self, column: str) -> str:
        """The head of a column."""
        return self.columns[column].title if column in self.columns else column

    def axis(self, column: str) -> str:
        """The head of a column with its unit."""
        unit = self.columns[column].unit if column in self.columns else ""
        return f"{self.title(column)}, {unit}" if unit else self.title(column)

    def has(self, figure: page.Figure) -> bool:
        """Whether the run holds what the figure shows."""
        if isinstance(figure, page.PictureRows):
            return all(name in self.pictures for name in figure.names)
        return figure.table in self.numbers.tables


def draw(figure: page.Figure, drawn: Drawn, theme: Theme) -> Figure:
    """A figure in the colours of a theme."""
    make: Callable[..., Figure] = _MAKERS[type(figure)]
    return make(figure, drawn, theme)


def bars(figure: page.Bars, drawn: Drawn, theme: Theme) -> Figure:
    """Horizontal bars, the columns of a row together, with whiskers of a standard deviation."""
    names = list(figure.rows or drawn.numbers.tables[figure.table])
    count = len(figure.columns)
    made = new_figure(7.0, 0.9 + len(names) * (0.18 + 0.2 * count), theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=theme.grid, linewidth=0.8)
    places, height = np.arange(len(names)), 0.8 / count
    for i, column in enumerate(figure.columns):
        cells = [Cell(figure.table, name, column) for name in names]
        ax.barh(
            places + (i - (count - 1) / 2) * height,
            [_or_nan(drawn.numbers.mean(cell)) for cell in cells],
            0.9 * height,
            xerr=[drawn.numbers.spread(cell) or 0.0 for cell in cells],
            color=_inks(theme)[i % 4],
            error_kw={"ecolor": theme.ink, "elinewidth": 1.1},
            label=drawn.title(column),
        )
    ax.set_yticks(places, [fitted(name, 2.2, SMALL)[0] for name in names], parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(figure.axis, color=theme.ink, fontsize=LABEL)
    if count > 1:
        legend(ax, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=count)
    return made


def matrix(figure: page.Matrix, drawn: Drawn, theme: Theme) -> Figure:
    """A table as coloured cells with the means written in them."""
    columns = list(figure.columns or drawn.numbers.columns(figure.table))
    names = list(drawn.numbers.tables[figure.table])
    means = [[drawn.numbers.mean(Cell(figure.table, n, c)) for c in columns] for n in names]
    values = np.array([[_or_nan(v) for v in row] for row in means])
    made = new_figure(2.3 + 0.72 * len(columns), 1.6 + 0.36 * len(names), theme)
    ax = axes_of(made, 1, 1)
    top = 100.0 if figure.axis == "%" else float(np.nanmax(values))
    ax.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        ink = "#ffffff" if value > LEGIBLE * top else "#1c2430"
        text = "–" if np.isnan(value) else f"{value:.1f}"
        ax.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=ink)
    ax.xaxis.tick_top()
    heads = [fitted(drawn.title(c), 1.1, SMALL)[0] for c in columns]
    ax.set_xticks(range(len(columns)), heads, rotation=35, ha="left", parse_math=False)
    ax.set_yticks(range(len(names)), [fitted(n, 1.9, SMALL)[0] for n in names], parse_math=False)
    ax.tick_params(colors=theme.ink, labelsize=SMALL, length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return made


def lines(figure: page.Lines, drawn: Drawn, theme: Theme) -> Figure:
    """One line for all rows whose names differ in the number at their end alone."""
    made = new_figure(6.4, 3.8, theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    groups: dict[str, list[tuple[float, str]]] = {}
    for name in drawn.numbers.tables[figure.table]:
        head, _, number = name.rpartition(" ")
        groups.setdefault(head, []).append((float(number), name))
    for i, (head, points) in enumerate(groups.items()):
        ordered = sorted(points)
        cells = [Cell(figure.table, name, figure.column) for _, name in ordered]
        ax.errorbar(
            [x for x, _ in ordered],
            [_or_nan(drawn.numbers.mean(cell)) for cell in cells],
            yerr=[drawn.numbers.spread(cell) or 0.0 for cell in cells],
            color=_inks(theme)[i % 4],
            linewidth=2,
            capsize=2,
            label=head.removesuffix(" at"),
        )
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.set_xlabel(figure.x_axis, color=theme.ink, fontsize=LABEL)
    ax.set_ylabel(figure.axis, color=theme.ink, fontsize=LABEL)
    legend(ax, theme)
    return made


def scatter(figure: page.Scatter, drawn: Drawn, theme: Theme) -> Figure:
    """A point for each row and seed, labelled by the row."""
    made = new_figure(6.4, 4.4, theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    for i, name in enumerate(drawn.numbers.tables[figure.table]):
        x, y = (drawn.numbers.values(Cell(figure.table, name, c)) for c in (figure.x, figure.y))
        if x and y:
            marker = "os^Dvp*hX"[i % 9]
            ink = _inks(theme)[i % 4]
            ax.scatter(x, y, color=ink, marker=marker, s=26, label=fitted(name, 2.0, SMALL)[0])
    ax.set_xlabel(drawn.axis(figure.x), color=theme.ink, fontsize=LABEL)
    ax.set_ylabel(drawn.axis(figure.y), color=theme.ink, fontsize=LABEL)
    legend(ax, theme, loc="upper left", bbox_to_anchor=(1, 1))
    return made


def picture_rows(figure: page.PictureRows, drawn: Drawn, theme: Theme) -> Figure:
    """The pictures of each name in a row."""
    named = zip(figure.names, figure.labels, strict=True)
    return rows_of_pictures(
        [PictureRow(label, list(drawn.pictures[n])) for n, label in named], theme
    )


def _or_nan(value: float | None) -> float:
    """What is missing is not drawn."""
    return math.nan if value is None else value


def _inks(theme: Theme) -> tuple[str, ...]:
    return theme.blue, theme.vermillion, theme.orange, theme.green


_MAKERS: Mapping[type, Callable[[Any, Drawn, Theme], Figure]] = {
    page.Bars: bars,
    page.Lines: lines,
    page.Matrix: matrix,
    page.PictureRows: picture_rows,
    page.Scatter: scatter,
}
