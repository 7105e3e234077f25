"""Draws the kinds of figures that a paper's page describes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from notbugs.core.errors import DataError
from notbugs.experiments import page
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.report.figures.picture_rows import PictureRow, rows_of_pictures
from notbugs.report.figures.sheet import Array
from notbugs.report.figures.style import (
    LABEL,
    SMALL,
    Theme,
    axes_of,
    chance_line,
    fitted,
    legend,
    new_figure,
    plain_axes,
)
from notbugs.report.reading import REMEDY, Arrays

MOST_TICKS = 8
LEGIBLE = 0.55
"""Of the scale, the value above which a matrix's numbers are written in white."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.5)))
"""Of lines that share their colours."""
LEAST = 1e-12
"""The smallest number that a logarithmic axis shows."""
MARKERS = "osD^vp*hX"
"""Of lines and points: with four colours, 36 looks before one comes again."""


@dataclass(frozen=True)
class Drawn:
    """What figures are drawn from: the run's numbers and pictures, how columns are written."""

    numbers: Numbers
    pictures: Arrays
    columns: Mapping[str, page.Column]
    classes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def worded(self, text: str) -> str:
        """A text with the run's settings in place of their {names}.

        **Raises** DataError where the run lacks one.
        """
        try:
            return text.format_map(self.settings)
        except KeyError as missing:
            raise DataError(f"The results lack the setting {missing}. {REMEDY}") from missing

    def title(self, column: str) -> str:
        """The head of a column."""
        return self.columns[column].title if column in self.columns else column

    def axis(self, column: str) -> str:
        """The head of a column with its unit."""
        unit = self.columns[column].unit if column in self.columns else ""
        return f"{self.title(column)}, {unit}" if unit else self.title(column)

    def limit(self, setting: str) -> float:
        """A setting that is a number.

        **Raises** DataError where the run lacks it.
        """
        return float(Fraction(self.worded(f"{{{setting}}}")))

    def columns_of(self, figure: page.Bars | page.Lines | page.Matrix) -> list[str]:
        """The figure's columns that the run has."""
        known = self.numbers.columns(figure.table)
        return [column for column in figure.columns or known if column in known]

    def has(self, figure: page.Figure) -> bool:
        """Whether the run holds what the figure shows."""
        if isinstance(figure, page.Lines):
            rows = self.numbers.tables.get(figure.table, {})
            shown = any(figure.lines is None or place_of(row)[0] in figure.lines for row in rows)
            return shown and bool(self.columns_of(figure))
        if isinstance(figure, page.PictureRows):
            return any(map(self.images, figure.names))
        if isinstance(figure, page.Curves):
            return all(name in self.pictures for name in (figure.x, figure.names[0]))
        if isinstance(figure, page.Scatter):
            return figure.table in self.numbers.tables
        return figure.table in self.numbers.tables and bool(self.columns_of(figure))

    def images(self, names: str | tuple[str, ...]) -> list[Array | None]:
        """The pictures of a name, or of several with a gap between; none where some are missing."""
        found: list[Array | None] = []
        for name in (names,) if isinstance(names, str) else names:
            if name not in self.pictures:
                return []
            found += [None] * bool(found) + list(self.pictures[name])
        return found


def draw(figure: page.Figure, drawn: Drawn, theme: Theme) -> Figure:
    """A figure in the colours of a theme."""
    make: Callable[..., Figure] = _MAKERS[type(figure)]
    return make(figure, drawn, theme)


def bars(figure: page.Bars, drawn: Drawn, theme: Theme) -> Figure:
    """Horizontal bars, the columns of a row together, with whiskers of a standard deviation."""
    known, columns = drawn.numbers.tables[figure.table], drawn.columns_of(figure)
    shown = figure.rows or list(known)
    labels = dict(zip(shown, figure.labels or shown, strict=True))
    titles = dict(zip(figure.columns, figure.legend or (), strict=False))
    names = [name for name in shown if name in known]
    count = len(columns)
    made = new_figure(7.0, 0.9 + len(names) * (0.18 + 0.2 * count), theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=theme.grid, linewidth=0.8)
    places, height = np.arange(len(names)), 0.8 / count
    for i, column in enumerate(columns):
        cells = [Cell(figure.table, name, column) for name in names]
        drawn_bars = ax.barh(
            places + (i - (count - 1) / 2) * height,
            [_or_nan(drawn.numbers.mean(cell)) for cell in cells],
            0.9 * height,
            xerr=[_or_nan(drawn.numbers.spread(cell)) for cell in cells],
            color=_inks(theme)[i % 4],
            error_kw={"ecolor": theme.ink, "elinewidth": 1.1},
            label=titles.get(column, drawn.title(column)),
        )
        for name, bar in zip(names, drawn_bars, strict=True):
            if page.is_control(name):
                bar.set(alpha=0.5, hatch="////", edgecolor=theme.paper, linewidth=0)
    chance = _chance(figure, drawn)
    if chance is not None:
        chance_line(ax, chance, theme, vertical=True)
    words = [fitted(labels[name], 2.2, SMALL)[0] for name in names]
    ax.set_yticks(places, words, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    ax.set_xlabel(drawn.worded(figure.axis), color=theme.ink, fontsize=LABEL)
    named = count + (chance is not None)
    if named > 1:
        columns_of_legend = 2 if figure.legend else named
        legend(ax, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns_of_legend)
    return made


def matrix(figure: page.Matrix, drawn: Drawn, theme: Theme) -> Figure:
    """A table as coloured cells with the means written in them."""
    columns = drawn.columns_of(figure)
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
    groups, columns = _groups(figure, drawn), drawn.columns_of(figure)
    inks = {name: i for i, name in enumerate(dict.fromkeys(map(page.uncontrolled, groups)))}
    for head, points in groups.items():
        control, place = page.is_control(head), inks[page.uncontrolled(head)]
        dashes = DASHES[place % len(DASHES)] if len(columns) > 1 else "-"
        for i, column in enumerate(columns):
            cells = [Cell(figure.table, name, column) for _, name in points]
            what = f", {drawn.title(column)}" * (len(columns) > 1)
            several = i if len(columns) > 1 else place
            ax.errorbar(
                [x for x, _ in points],
                [_or_nan(drawn.numbers.mean(cell)) for cell in cells],
                yerr=[_or_nan(drawn.numbers.spread(cell)) for cell in cells],
                color=_inks(theme)[several % 4],
                linewidth=1.5 if control else 2.2,
                linestyle=(0, (4, 2)) if control else dashes,
                marker=MARKERS[several % len(MARKERS)],
                markersize=4.5,
                markerfacecolor=theme.paper if control else None,
                capsize=2,
                label=head + what,
            )
    if figure.logarithmic:
        ax.set_xscale("log")
    ticks = {x: name.rpartition(" at ")[2] for points in groups.values() for x, name in points}
    if len(ticks) <= MOST_TICKS:
        ax.set_xticks(list(ticks), list(ticks.values()), parse_math=False)
        ax.xaxis.set_minor_locator(NullLocator())
    chance = _chance(figure, drawn)
    if chance is not None:
        chance_line(ax, chance, theme)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    if figure.limit is not None:
        _shaded(ax, drawn.limit(figure.limit), figure.within, theme)
    ax.set_xlabel(drawn.worded(figure.x_axis), color=theme.ink, fontsize=LABEL)
    ax.set_ylabel(drawn.worded(figure.axis), color=theme.ink, fontsize=LABEL)
    legend(ax, theme, loc="upper left", bbox_to_anchor=(1, 1))
    return made


def _groups(figure: page.Lines, drawn: Drawn) -> dict[str, list[tuple[float, str]]]:
    """The points of each line in order: (x, row)."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for name in drawn.numbers.tables[figure.table]:
        head, number = place_of(name)
        if number is not None and (figure.lines is None or head in figure.lines):
            groups.setdefault(head, []).append((number, name))
    return {head: sorted(points) for head, points in groups.items()}


def scatter(figure: page.Scatter, drawn: Drawn, theme: Theme) -> Figure:
    """A point for each row and seed, labelled by the row, or by what precedes its number."""
    made = new_figure(6.4, 4.4, theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in figure.kinds}
    for name, columns in drawn.numbers.tables[figure.table].items():
        pairs = zip(columns.get(figure.x, ()), columns.get(figure.y, ()), strict=False)
        known = [(x, y) for x, y in pairs if x is not None and y is not None]
        if known:
            points.setdefault(name.partition(" at ")[0], []).extend(known)
    for i, (name, of) in enumerate(points.items()):
        if of:
            marker, ink = MARKERS[i % len(MARKERS)], _inks(theme)[i % 4]
            label = fitted(name, 2.0, SMALL)[0]
            ax.scatter(*zip(*of, strict=True), color=ink, marker=marker, s=26, label=label)
    shown = [point for name, of in points.items() if name != figure.apart for point in of]
    if shown and points.get(figure.apart):
        low, high = min(0.0, *(y for _, y in shown)), max(0.0, *(v for both in shown for v in both))
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if figure.zero:
        ax.axhline(0, color=theme.ink, linewidth=0.8)
        ax.axline((0, 0), slope=1, color=theme.ink, linewidth=0.8, linestyle=":")
    ax.set_xlabel(drawn.axis(figure.x), color=theme.ink, fontsize=LABEL)
    ax.set_ylabel(drawn.axis(figure.y), color=theme.ink, fontsize=LABEL)
    legend(ax, theme, loc="upper left", bbox_to_anchor=(1, 1))
    return made


def picture_rows(figure: page.PictureRows, drawn: Drawn, theme: Theme) -> Figure:
    """The pictures of each name in a row, with their classes where the run has them."""
    heads, rows = dict(figure.heads), list[PictureRow]()
    for i, (names, label) in enumerate(zip(figure.names, figure.labels, strict=True)):
        if drawn.images(names):
            row = _picture_row(names, label.format(*drawn.classes), drawn)
            rows.append(replace(row, head=heads.get(i, "")))
    return rows_of_pictures(rows, theme)


def _picture_row(names: str | tuple[str, ...], label: str, drawn: Drawn) -> PictureRow:
    images, name = drawn.images(names), names if isinstance(names, str) else names[0]
    stem = name.rpartition(".")[0]
    labels = drawn.pictures.get(f"{stem}.labels")
    if labels is None or name.endswith(".difference"):
        return PictureRow(label, images)
    true = drawn.pictures.get(f"{stem}.true_labels", labels)
    return PictureRow(
        label,
        images,
        captions=[drawn.classes[int(c)] for c in labels],
        true=[None if a == b else drawn.classes[int(b)] for a, b in zip(labels, true, strict=True)],
    )


def curves(figure: page.Curves, drawn: Drawn, theme: Theme) -> Figure:
    """Lines of stored numbers over others."""
    made = new_figure(6.2, 3.6, theme)
    ax = axes_of(made, 1, 1)
    plain_axes(ax, theme)
    inks = cycle(_inks(theme))
    ink = theme.ink
    for name, label in zip(figure.names, figure.labels, strict=True):
        ink = next(inks) if label else ink
        if name in drawn.pictures:
            values = drawn.pictures[name]
            values = np.maximum(values, LEAST) if figure.logarithmic else values
            ax.plot(drawn.pictures[figure.x], values, color=ink, linewidth=2, label=label or None)
    if figure.logarithmic:
        ax.set_yscale("log")
    ax.set_xlabel(drawn.worded(figure.x_axis), color=theme.ink, fontsize=LABEL)
    ax.set_ylabel(drawn.worded(figure.axis), color=theme.ink, fontsize=LABEL)
    legend(ax, theme)
    return made


def _shaded(ax: Axes, limit: float, words: str, theme: Theme) -> None:
    """Shades the axis up to a limit."""
    left, right = ax.get_xlim()
    ax.axvspan(left, limit, color=theme.blue, alpha=0.08, linewidth=0)
    ax.set_xlim(left, right)
    place: Any = {"transform": ax.get_xaxis_transform(), "va": "bottom"}
    ax.text(left, 1.01, words, color=theme.faint, fontsize=SMALL, **place)


def place_of(name: str) -> tuple[str, float | None]:
    """A row "NAME at NUMBER" as both, any other as its name and None."""
    head, _, number = name.rpartition(" at ")
    try:
        return (head, float(Fraction(number))) if head else (name, None)
    except (ValueError, ZeroDivisionError):
        return name, None


def _chance(figure: page.Bars | page.Lines, drawn: Drawn) -> float | None:
    """The value of the column of guessing, the same in all rows."""
    if figure.chance is None:
        return None
    row = next(iter(drawn.numbers.tables[figure.table]))
    return drawn.numbers.mean(Cell(figure.table, row, figure.chance))


def _or_nan(value: float | None) -> float:
    """What is missing is not drawn."""
    return math.nan if value is None else value


def _inks(theme: Theme) -> tuple[str, ...]:
    return theme.blue, theme.vermillion, theme.orange, theme.green


_MAKERS: Mapping[type, Callable[[Any, Drawn, Theme], Figure]] = {
    page.Bars: bars,
    page.Curves: curves,
    page.Lines: lines,
    page.Matrix: matrix,
    page.PictureRows: picture_rows,
    page.Scatter: scatter,
}
