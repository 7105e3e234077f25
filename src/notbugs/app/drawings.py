"""The explorer's figures, as inline SVG: the crossover's curves and the plane of usefulness."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from notbugs.app.crossover import Crossover
from notbugs.app.markup import drawing, text
from notbugs.app.plane import KINDS, Plane
from notbugs.report.figures import LIGHT
from notbugs.report.figures.kinds import MARKERS
from notbugs.report.figures.style import (
    LABEL,
    axes_of,
    legend,
    new_figure,
    percent_axis,
    plain_axes,
)

INKS = (LIGHT.green, LIGHT.blue, LIGHT.vermillion, LIGHT.orange)
"""Of the observer, and of the models."""


@dataclass(frozen=True)
class Curves:
    """The curves as SVG, and where in it each radius lies: x, and the axes' top and bottom."""

    svg: str
    places: Sequence[float]
    top: float
    bottom: float

    def at(self, radius: int) -> str:
        """The curves with a line at a radius, by its place."""
        x = f"{self.places[radius]:.2f}"
        line = (
            f'<line class="nb-now" x1="{x}" x2="{x}" y1="{self.top:.2f}" y2="{self.bottom:.2f}" '
            'stroke="var(--nb-ink)" stroke-width="1.2" stroke-dasharray="3 2"/>'
        )
        return self.svg.replace("</svg>", f"{line}</svg>")


def curves_of(found: Crossover, prefix: str) -> Curves:
    """The shares of images with the new class (solid) and the true one (dashed), by radius."""
    figure = new_figure(6.4, 3.8, LIGHT)
    figure.set_dpi(72)  # that of SVG, for the places below
    ax = axes_of(figure, 1, 1)
    plain_axes(ax, LIGHT)
    percent_axis(ax, LIGHT, "images given that class, %")
    radii = found.radii.tolist()
    inks = dict(zip(found.said, INKS, strict=False))
    for i, (name, ink) in enumerate(inks.items()):
        true, new = found.shares(name)
        marker = MARKERS[i]
        ax.plot(radii, new, color=ink, marker=marker, markersize=4, label=f"{name}: new")
        ax.plot(radii, true, color=ink, linestyle=(0, (4, 2)), label=f"{name}: true")
    ax.set_xlim(left=-0.02 * radii[-1])
    ax.set_xlabel("ε, L2 distance from the image", color=LIGHT.ink, fontsize=LABEL)
    legend(ax, LIGHT, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(inks))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the axes stay where they are now
    height = 72 * float(figure.get_size_inches()[1])
    places = [float(ax.transData.transform((r, 0))[0]) for r in radii]
    low, high = (height - float(ax.transAxes.transform((0, y))[1]) for y in (0, 1))
    alt = f"Shares of {len(found.true)} images by radius; the numbers are in the table below."
    return Curves(drawing(figure, alt, prefix), places, high, low)


def limits_of(planes: Iterable[Plane]) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the axes of all planes show, rho and gamma."""
    several = list(planes)

    def limits(name: str) -> tuple[float, float]:
        values = [float(v) for found in several for v in getattr(found, name)]
        low, high = min(0.0, *values), max(0.0, *values)
        return low - 0.06 * (high - low), high + 0.06 * (high - low)

    return limits("rho"), limits("gamma")


def plane_of(
    found: Plane,
    classes: Sequence[str],
    threat: str,
    prefix: str,
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> str:
    """Every unit as a point that can be clicked: its element's id is PREFIX-unit-PLACE."""
    figure = new_figure(6.4, 4.6, LIGHT)
    ax = axes_of(figure, 1, 1)
    plain_axes(ax, LIGHT)
    inks = (LIGHT.blue, LIGHT.vermillion, LIGHT.orange, LIGHT.faint)
    for i, kind in enumerate(found.kind.tolist()):
        ax.plot(
            [float(found.rho[i])], [float(found.gamma[i])], linestyle="", markersize=8,
            marker=MARKERS[kind], color=inks[kind], gid=f"unit-{i}",
        )  # fmt: skip
    for kind, name in enumerate(KINDS):
        if kind in found.kind.tolist():
            ax.plot([], [], linestyle="", marker=MARKERS[kind], color=inks[kind], label=name)
    ax.axhline(0, color=LIGHT.ink, linewidth=0.8)
    ax.axline((0, 0), slope=1, color=LIGHT.ink, linewidth=0.8, linestyle=":")
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.set_xlabel("ρ, usefulness", color=LIGHT.ink, fontsize=LABEL)
    ax.set_ylabel(f"γ, what {threat} leaves of it", color=LIGHT.ink, fontsize=LABEL)
    legend(ax, LIGHT, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(KINDS))
    made = drawing(figure, f"{len(found.units)} units; the list beside it names each.", prefix)
    for i in range(len(found.units)):
        mark = f'<g id="{prefix}-unit-{i}">'
        made = made.replace(mark, f"{mark}<title>{text(unit_words(found, i, classes))}</title>")
    return made


def unit_words(found: Plane, i: int, classes: Sequence[str]) -> str:
    """A unit's name in lists."""
    return (
        f"unit {int(found.units[i])}, for {classes[int(found.best[i])]}: "
        f"ρ {float(found.rho[i]):.2f}, γ {float(found.gamma[i]):.2f}"
    )
