"""Shared by plots over a radius: colours, titles, and an axis in common units."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from notbugs.core.errors import bad_value
from notbugs.judge import AccuracyCurve, Distances
from notbugs.report.figures.style import LABEL, TITLE, Theme
from notbugs.report.formatting import norm_name


def inks(count: int, theme: Theme) -> list[tuple[str, Any]]:
    """A colour and a dash for each of `count` lines: four colours, then dashed ones."""
    colors = (theme.blue, theme.vermillion, theme.green, theme.orange)
    dashes = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (5, 1.4, 1.4, 1.4)))
    pairs = [(color, dash) for dash in dashes for color in colors]
    return [pairs[i % len(pairs)] for i in range(count)]


def check_some(results: Mapping[str, object]) -> None:
    """Refuses empty results."""
    if not results:
        raise bad_value("results", "hold at least one result", "none")


def norm_of(results: Mapping[str, AccuracyCurve] | Mapping[str, Distances]) -> str:
    """The norm of all of them.

    **Raises** ValueError where they differ: their radii do not compare.
    """
    norms = {each.norm for each in results.values()}
    if len(norms) != 1:
        listed = ", ".join(sorted(norms))
        raise bad_value("results", "be of one norm", listed, "Draw a picture for each norm.")
    return norms.pop()


def title(ax: Axes, text: str, theme: Theme, pad: float = 8) -> None:
    """A title at the left end, `pad` points above the axes."""
    ax.set_title(text, fontsize=TITLE, color=theme.ink, loc="left", pad=pad)


def radius_text(norm: str, radius: float) -> str:
    """A measured radius in the axis's unit, to three digits."""
    return f"{255 * radius:.3g}/255" if norm == "linf" else f"{radius:.3g}"


def radius_axis(
    ax: Axes,
    norm: str,
    what: str,
    note: str,
    theme: Theme,
    infinite: float | None = None,
) -> None:
    """Labels the axis in common units: 255ths for Linf, pixels for L0.

    `infinite`: the position of the tick for images that were never broken, if any.
    """
    unit = {"linf": "255ths of [0, 1]", "l0": "pixels"}.get(norm, "pixel units of [0, 1]")
    scale = 255 if norm == "linf" else 1
    end = ax.get_xlim()[1] if infinite is None else infinite * 0.97
    ticks = [
        t / scale
        for t in MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(0, end * scale)
        if 0 <= t <= end * scale
    ]
    names = [f"{t * scale:g}" for t in (round(tick, 9) for tick in ticks)]
    if infinite is not None:
        ticks, names = [*ticks, infinite], [*names, "∞"]
    ax.set_xticks(ticks, names)
    words = f"{what} ({norm_name(norm)}, {unit})\n{note}"
    ax.set_xlabel(words, color=theme.ink, fontsize=LABEL, linespacing=1.4)
