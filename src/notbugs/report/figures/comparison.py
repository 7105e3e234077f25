"""Several models: robust accuracy against ε, with the verdicts under each threat."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from notbugs.core.errors import bad_value
from notbugs.judge import AccuracyCurve, Cell, Comparison
from notbugs.report.figures.curves import draw_accuracy
from notbugs.report.figures.labels import label_lines
from notbugs.report.figures.radius import inks, title
from notbugs.report.figures.style import LIGHT, SMALL, Theme, axes_of, new_figure
from notbugs.report.formatting import norm_name

MARKS = "osD^v"
"""The shape of a method's points."""


def comparison_sheet(comparison: Comparison, theme: Theme = LIGHT) -> Figure:
    """A panel for each norm: a line a model (FMN, an upper bound), and a point a verdict.

    **Raises** ValueError for a comparison without curves.
    """
    norms: dict[str, dict[str, AccuracyCurve]] = {}
    for name, curve in comparison.curves:
        norms.setdefault(curve.norm, {})[name] = curve
    if not norms:
        raise bad_value("comparison", "have curves", "none", "Call compare(..., curves=True).")
    figure = new_figure(0.6 + 5.6 * len(norms), 4.9, theme)
    axes = axes_of(figure, 1, len(norms), squeeze=False)[0]
    methods = list(dict.fromkeys(cell.method for cell in comparison.cells))
    for ax, (norm, curves) in zip(axes, norms.items(), strict=True):
        cells = [cell for cell in comparison.cells if cell.threat.norm.name == norm]
        _panel(ax, norm, curves, cells, methods, theme)
    return figure


def _panel(
    ax: Axes,
    norm: str,
    curves: Mapping[str, AccuracyCurve],
    cells: Sequence[Cell],
    methods: Sequence[str],
    theme: Theme,
) -> None:
    top = 2 * max(cell.threat.eps for cell in cells)
    top = min(top, 1.0) if norm == "linf" else top
    cut = {name: curve.up_to(top) for name, curve in curves.items()}
    lines = draw_accuracy(ax, cut, theme)
    for name, (color, _) in zip(curves, inks(len(curves), theme), strict=True):
        for cell in cells:
            if cell.model == name:
                i = methods.index(cell.method)
                beside = 0.012 * top * (i - (len(methods) - 1) / 2)
                _point(ax, cell, beside, MARKS[i % len(MARKS)], color, theme)
    title(ax, norm_name(norm), theme)
    label_lines(ax, lines, theme)
    attack = next(iter(curves.values())).attack
    points = [f"{MARKS[i % len(MARKS)]}" for i in range(len(methods))]
    handles = [
        ax.plot([], [], mark, color=theme.ink, markersize=5.5, label=method)[0]
        for mark, method in zip(points, methods, strict=True)
    ]
    ax.legend(
        handles=handles,
        title=f"line: {attack}; points:",
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
        loc="upper right",
    )


def _point(ax: Axes, cell: Cell, beside: float, mark: str, color: str, theme: Theme) -> None:
    """A verdict and its interval; methods lie `beside` each other, so that all are seen."""
    low, high = cell.verdict.ci95
    rate = cell.verdict.robust_accuracy
    ax.errorbar(
        cell.threat.eps + beside,
        rate,
        yerr=[[max(0.0, rate - low)], [max(0.0, high - rate)]],
        fmt=mark,
        color=color,
        markeredgecolor=theme.paper,
        markersize=7,
        capsize=3,
        zorder=4,
        gid=f"point:{cell.model} {cell.threat} {cell.method}",
    )
