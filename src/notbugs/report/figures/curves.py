"""Robust accuracy against ε, distances of minimum-norm attacks, loss against steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from notbugs.judge import AccuracyCurve, Distances, LossCurve
from notbugs.report.figures.descent import draw_losses
from notbugs.report.figures.distances import SUBTITLE_PAD, draw_distances
from notbugs.report.figures.labels import label_lines
from notbugs.report.figures.radius import check_some, inks, norm_of, radius_axis, title
from notbugs.report.figures.style import (
    LIGHT,
    Theme,
    axes_of,
    mosaic_of,
    new_figure,
    percent_axis,
    plain_axes,
)


def accuracy_curves(curves: Mapping[str, AccuracyCurve], theme: Theme = LIGHT) -> Figure:
    """Robust accuracy against ε, one line a name, with the 95 % interval over images."""
    check_some(curves)
    figure = new_figure(6.2, 4.4, theme)
    ax = axes_of(figure, 1, 1)
    label_lines(ax, draw_accuracy(ax, curves, theme), theme)
    return figure


def distance_histograms(results: Mapping[str, Distances], theme: Theme = LIGHT) -> Figure:
    """How far the nearest successes are, one histogram a name over the same distances."""
    check_some(results)
    figure = new_figure(6.2, 0.9 + 2.1 * len(results), theme)
    axes = axes_of(figure, len(results), 1, sharex=True, squeeze=False)[:, 0]
    draw_distances(list(axes), results, theme)
    return figure


def loss_curves(curves: Mapping[str, LossCurve], theme: Theme = LIGHT) -> Figure:
    """The attack's objective at each step, and below it the share that has succeeded."""
    check_some(curves)
    figure = new_figure(6.2, 5.6, theme)
    top, bottom = axes_of(figure, 2, 1, sharex=True, height_ratios=[1.35, 1])
    lines = draw_losses(top, bottom, curves, theme)
    label_lines(top, lines, theme)
    return figure


def nearest_sheet(results: Mapping[str, Distances], theme: Theme = LIGHT) -> Figure:
    """Minimum-norm attacks: robust accuracy against ε beside the distances it comes from."""
    check_some(results)
    figure = new_figure(11.0, max(4.6, 0.9 + 1.9 * len(results)), theme)
    rows = [["accuracy", f"distance {i}"] for i in range(len(results))]
    axes = mosaic_of(figure, rows)
    left, right = axes["accuracy"], [axes[row[1]] for row in rows]
    _share(right)
    curves = {name: each.curve() for name, each in results.items()}
    lines = draw_accuracy(left, curves, theme, pad=SUBTITLE_PAD)
    draw_distances(right, results, theme)
    label_lines(left, lines, theme)
    return figure


def budget_sheet(
    accuracy: Mapping[str, AccuracyCurve], losses: Mapping[str, LossCurve], theme: Theme = LIGHT
) -> Figure:
    """Attacks of a fixed budget: robust accuracy against ε beside the loss against steps."""
    check_some(accuracy)
    figure = new_figure(11.0, 4.9, theme)
    rows = [["accuracy", "loss"], ["accuracy", "reached"]]
    axes = mosaic_of(figure, rows, height_ratios=[1.35, 1])
    top, bottom = axes["loss"], axes["reached"]
    _share([top, bottom])
    lines = draw_accuracy(axes["accuracy"], accuracy, theme)
    named = draw_losses(top, bottom, losses, theme)
    label_lines(axes["accuracy"], lines, theme)
    label_lines(top, named, theme)
    return figure


def draw_accuracy(
    ax: Axes, curves: Mapping[str, AccuracyCurve], theme: Theme, pad: float = 8
) -> list[tuple[Line2D, str]]:
    """Draws the lines on given axes; returns them with their names, to be written beside."""
    plain_axes(ax, theme)
    percent_axis(ax, theme, "robust accuracy (%)")
    end = 1.04 * max(curve.eps[-1] for curve in curves.values()) or 1.0
    pens = inks(len(curves), theme)
    lines: list[tuple[Line2D, str]] = []
    for (name, curve), (color, dashes) in zip(curves.items(), pens, strict=True):
        lines.append((_accuracy_line(ax, name, curve, end, color, dashes), name))
    ax.set_xlim(0, end)
    title(ax, "Robust accuracy against ε", theme, pad)
    counts = sorted({curve.n for curve in curves.values()})
    note = f"band: 95 % interval over {' or '.join(f'{n:,}' for n in counts)} images"
    radius_axis(ax, norm_of(curves), "ε", note, theme)
    return lines


def _accuracy_line(
    ax: Axes, name: str, curve: AccuracyCurve, end: float, color: str, dashes: Any
) -> Line2D:
    x, y = np.array(curve.eps), np.array(curve.accuracy)
    low, high = np.array(curve.ci95).T
    if curve.exact:  # it holds its value up to the next step, and after the last one
        x = np.repeat(np.append(x, max(end, x[-1])), 2)[1:-1]
        y, low, high = (np.repeat(v, 2) for v in (y, low, high))
    (line,) = ax.plot(
        x,
        y,
        color=color,
        linestyle=dashes,
        linewidth=2.2,
        marker=None if curve.exact else "o",
        markersize=5.5,
        clip_on=False,
        zorder=3,
        gid=f"line:{name}",
    )
    ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0, zorder=2)
    return line


def _share(axes: Sequence[Axes]) -> None:
    """Axes above one another get one horizontal axis, written below the last."""
    for ax in axes[:-1]:
        ax.sharex(axes[-1])
        ax.tick_params(labelbottom=False)
