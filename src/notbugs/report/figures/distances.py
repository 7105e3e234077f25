"""The distances of minimum-norm attacks as histograms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from notbugs.judge import Distances
from notbugs.report.figures.radius import inks, norm_of, radius_axis, radius_text, title
from notbugs.report.figures.style import LABEL, SMALL, Theme, fitted, plain_axes, width_of

Points = npt.NDArray[Any]

BINS = 32
SUBTITLE_PAD = 24
"""Points between a title and its axes with a line of text between them."""


def draw_distances(axes: Sequence[Axes], results: Mapping[str, Distances], theme: Theme) -> None:
    """Draws one histogram on each of the given axes, all over the same bins."""
    finite = [d for each in results.values() for d in each.ordered.tolist() if math.isfinite(d)]
    edges = _edges(norm_of(results), max(finite, default=1.0) or 1.0)
    pens = inks(len(results), theme)
    for ax, each, (color, _) in zip(axes, results.values(), pens, strict=True):
        _histogram(ax, each, edges, color, theme)
        title(ax, " ", theme)  # space for the line of text
    title(axes[0], "How far the nearest success is", theme, SUBTITLE_PAD)
    infinite = _infinite_place(edges) if any(each.unbroken for each in results.values()) else None
    axes[-1].set_xlim(0, (infinite or edges[-1]) + 1.6 * (edges[1] - edges[0]))
    note = "images that were right when clean" + ("; ∞: never broken" if infinite else "")
    radius_axis(axes[-1], norm_of(results), "distance", note, theme, infinite)
    for ax, (name, each) in zip(axes, results.items(), strict=True):
        _subtitle(ax, name, each, theme)


def _edges(norm: str, largest: float) -> Points:
    """Bins from 0 to the largest distance; for L0 around whole numbers of pixels."""
    if norm != "l0":
        return np.linspace(0, largest, BINS + 1)
    width = math.ceil((largest + 1) / BINS)
    return np.arange(math.ceil((largest + 1) / width) + 1) * width - 0.5


def _histogram(ax: Axes, each: Distances, edges: Points, color: str, theme: Theme) -> None:
    plain_axes(ax, theme)
    ax.set_ylabel("images", color=theme.ink, fontsize=LABEL)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    counts, _ = np.histogram([d for d in each.ordered.tolist() if math.isfinite(d)], edges)
    width = edges[1] - edges[0]
    ax.bar(edges[:-1] + width / 2, counts, 0.92 * width, color=color, zorder=2)
    far = _infinite_place(edges)
    if each.unbroken:
        look: dict[str, Any] = {
            "hatch": "////",
            "edgecolor": theme.paper,
            "linewidth": 0,
            "alpha": 0.6,
        }
        ax.bar(far, each.unbroken, 1.6 * width, color=color, zorder=2, **look)
    ax.set_ylim(0, 1.2 * max(int(counts.max()), each.unbroken, 1))
    median = each.median
    if math.isfinite(median):
        ax.axvline(median, color=theme.ink, linewidth=1.4, zorder=3, gid="median")
        later = median > edges[-1] * 0.6
        ax.annotate(
            f"median {radius_text(each.norm, median)}",
            (median, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if later else 5, 0),
            textcoords="offset points",
            ha="right" if later else "left",
            va="top",
            fontsize=SMALL,
            color=theme.ink,
        )


def _subtitle(ax: Axes, name: str, each: Distances, theme: Theme) -> None:
    """Writes the attack's name, shortened to fit, and the number of images."""
    right = int(each.right.sum())
    words = f": {right:,} images" + (f", {each.n - right:,} wrong already" * (each.n > right))
    if each.unbroken:
        words += f", {each.unbroken:,} never broken"
    if 2 * each.unbroken > right:
        words += " (no median)"
    figure: Any = ax.figure
    figure.draw_without_rendering()
    width = 0.95 * ax.get_window_extent().width / figure.dpi
    shown, _ = fitted(name, max(0.5, width - width_of(words, SMALL)), SMALL, smallest=SMALL)
    annotation = ax.annotate(
        shown + words,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=SMALL,
        color=theme.faint,
        parse_math=False,
    )
    annotation.set_in_layout(False)


def _infinite_place(edges: Points) -> float:
    """The position of the bar for images that were never broken."""
    return float(edges[-1] + 2.2 * (edges[1] - edges[0]))
