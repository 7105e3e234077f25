"""Accuracy on true and on training labels against the radius of a constructed set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    TITLE,
    Theme,
    axes_of,
    chance_line,
    legend,
    new_figure,
    percent_axis,
    plain_axes,
)
from notbugs.report.formatting import eps_text, math_name, norm_name
from notbugs.report.reading import Run, SetRow

MOST_TICKS = 8


@dataclass(frozen=True)
class _Curve:
    """One line: which set and number, and how it is drawn."""

    name: str
    column: str
    text: str
    color: str
    marker: str

    @property
    def control(self) -> bool:
        return self.name.startswith("leak:")


def crossover(run: Run, theme: Theme = LIGHT) -> Figure:
    """Left: D_det on true and on taught labels. Right: D_rand and D_other on true labels."""
    figure = new_figure(11.0, 4.7, theme)
    left, right = axes_of(figure, 1, 2, sharey=True)
    draw_det(left, run, theme)
    draw_others(right, run, theme)
    right.set_ylabel("")
    return figure


def draw_det(ax: Axes, run: Run, theme: Theme) -> None:
    """The crossover itself, on given axes."""
    det = math_name("D_det")
    curves = [
        _Curve("D_det", "clean", "true labels y", theme.blue, "o"),
        _Curve("leak:D_det", "clean", "control: true labels", theme.blue, "o"),
        _Curve("D_det", "shifted", "labels it was taught, y + 1", theme.vermillion, "s"),
        _Curve("leak:D_det", "shifted", "control: taught labels", theme.vermillion, "s"),
    ]
    _panel(ax, run, curves, f"Trained on {det}: every label is y + 1", theme)


def draw_others(ax: Axes, run: Run, theme: Theme) -> None:
    """D_rand and D_other with their controls, on given axes."""
    rand, other = math_name("D_rand"), math_name("D_other")
    curves = [
        _Curve("D_other", "clean", f"{other} (no true label)", theme.green, "D"),
        _Curve("leak:D_other", "clean", f"control of {other}", theme.green, "D"),
        _Curve("D_rand", "clean", f"{rand} (random labels)", theme.orange, "^"),
        _Curve("leak:D_rand", "clean", f"control of {rand}", theme.orange, "^"),
    ]
    _panel(ax, run, curves, f"Trained on {other} and {rand}: true labels y", theme)


def _panel(ax: Axes, run: Run, curves: Sequence[_Curve], title: str, theme: Theme) -> None:
    plain_axes(ax, theme)
    percent_axis(ax, theme, "accuracy on the test set (%)")
    chance_line(ax, run.chance, theme)
    radii: set[float] = set()
    for curve in curves:
        radii |= _draw(ax, run.curve(curve.name), curve, theme)
    ax.set_title(title, fontsize=TITLE, color=theme.ink, loc="left", pad=10)
    ax.set_xlabel(
        f"ε of the changes the set was built with ({norm_name(run.norm)}, pixel units)",
        color=theme.ink,
        fontsize=LABEL,
    )
    _ticks(ax, sorted(radii), run.norm)
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    lines = lines[1:] + lines[:1]  # chance, drawn first, is explained last
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 3}
    legend(ax, theme, handles=lines, **place)


def _draw(ax: Axes, rows: Sequence[SetRow], curve: _Curve, theme: Theme) -> set[float]:
    """One line with the band of its deviations; returns the radii it has."""
    points = [(r.eps, r.mean(curve.column), r.std(curve.column)) for r in rows]
    complete = [
        (eps, mean, std) for eps, mean, std in points if eps is not None and mean is not None
    ]
    if not complete:
        return set()
    x = np.array([eps for eps, _, _ in complete])
    y = np.array([mean for _, mean, _ in complete])
    spread = np.array([np.nan if std is None else std for _, _, std in complete])
    alone = len(complete) == 1
    ax.plot(
        x,
        y,
        color=curve.color,
        linestyle=(0, (4, 2)) if curve.control else "-",
        linewidth=1.6 if curve.control else 2.3,
        marker=curve.marker,
        markersize=5.5 if curve.control else 6.5,
        markerfacecolor=theme.paper if curve.control else curve.color,
        markeredgewidth=1.4,
        alpha=0.85 if curve.control else 1.0,
        clip_on=False,  # points at 0 and 100 are whole
        zorder=2.5 if curve.control else 3,
        label=curve.text,
        gid=f"{curve.name}.{curve.column}",
    )
    if alone:
        ax.errorbar(x, y, yerr=spread, color=curve.color, capsize=4, fmt="none", zorder=3)
    elif not np.isnan(spread).all():
        low, high = np.clip(y - spread, 0, None), y + spread
        ax.fill_between(x, low, high, color=curve.color, alpha=0.16, linewidth=0, zorder=2)
    return {float(v) for v in x}


def _ticks(ax: Axes, radii: Sequence[float], norm: str) -> None:
    """Ticks at the radii, or at some of them if there are many."""
    if not radii:
        return
    margin = 0.06 * (radii[-1] - radii[0]) or 0.5 * radii[0]
    ax.set_xlim(radii[0] - margin, radii[-1] + margin)
    if len(radii) > MOST_TICKS:
        radii = radii[:: -(-len(radii) // MOST_TICKS)]
    ax.set_xticks(radii, [eps_text(norm, eps) for eps in radii])
    ax.xaxis.set_minor_locator(NullLocator())
