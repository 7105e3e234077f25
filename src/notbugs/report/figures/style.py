"""One look for all figures: inks, a colour-blind-safe palette, sizes, and text that fits."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

DPI = 160
TITLE, LABEL, SMALL, TINY = 11.0, 9.5, 8.5, 7.5
"""Font sizes in points."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Theme:
    """The colours of a figure.

    The palette is Okabe and Ito's, distinct with every common colour blindness; on dark
    paper blue and vermillion are lightened to keep their contrast.
    """

    paper: str
    ink: str
    faint: str
    grid: str
    blue: str
    orange: str
    vermillion: str
    green: str


LIGHT = Theme(
    paper="#ffffff",
    ink="#1c2430",
    faint="#5c6675",
    grid="#e3e6eb",
    blue="#0072b2",
    orange="#e69f00",
    vermillion="#c84e00",
    green="#007d5a",
)
DARK = Theme(
    paper="#161b22",
    ink="#e8ebf0",
    faint="#a3adba",
    grid="#2e3641",
    blue="#56b4e9",
    orange="#e69f00",
    vermillion="#ff8a4c",
    green="#2fc39a",
)


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty figure of that size in inches, drawn by Agg, known to no global state."""
    figure = Figure(figsize=(width, height), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # pyright: ignore[reportOptionalMemberAccess]
    return figure


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    buffer = BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return buffer.getvalue()


def plain_axes(ax: Axes, theme: Theme) -> None:
    """A quiet frame: no box, horizontal grid lines below the data."""
    ax.set_facecolor(theme.paper)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.faint)
    ax.tick_params(colors=theme.ink, labelsize=SMALL, length=0)
    ax.grid(axis="y", color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)


def percent_axis(ax: Axes, theme: Theme, label: str) -> None:
    """A vertical axis from 0 to 100 percent with room for numbers above."""
    ax.set_ylim(0, 108)
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(label, color=theme.ink, fontsize=LABEL)


def chance_line(ax: Axes, chance: float, theme: Theme) -> None:
    """A dotted line where guessing stands."""
    ax.axhline(
        chance,
        color=theme.faint,
        linestyle=(0, (1, 1.6)),
        linewidth=1.4,
        zorder=1.5,
        label=f"chance ({chance:.3g} %)",
    )


def legend(ax: Axes | FigureBase, theme: Theme, **place: Any) -> None:
    """A frameless legend in the figure's ink."""
    made = ax.legend(
        frameon=False,
        fontsize=SMALL,
        labelcolor=theme.ink,
        handlelength=1.9,
        columnspacing=1.4,
        **place,
    )
    made.set_gid("legend")


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a line of text gets, in inches."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    path = TextPath((0, 0), text.replace("$", "S"), size=size, prop=font, usetex=False)
    return float(path.get_extents().width) / 72


def fitted(text: str, inches: float, size: float, smallest: float = 6.0) -> tuple[str, float]:
    """The text and font size with which it fits: smaller first, then cut with an ellipsis."""
    text = " ".join(text.split())
    while size > smallest and width_of(text, size) > inches:
        size -= 0.5
    if width_of(text, size) <= inches:
        return text, size
    while len(text) > 1 and width_of(text + "…", size) > inches:
        text = text[:-1].rstrip()
    return text + "…", size


def picture(image: Array) -> Array:
    """An image [c, h, w] as matplotlib takes it: [h, w] in grey, else [h, w, 3]."""
    channels = image.shape[0]
    if channels in (3, 4):
        return np.clip(image[:3].transpose(1, 2, 0), 0, 1)
    return np.clip(image.mean(axis=0), 0, 1)


def show(ax: Axes, image: Array, theme: Theme) -> None:
    """Draws an image [c, h, w] of [0, 1] with its pixels sharp, and a thin frame."""
    ax.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    frame(ax, theme)


def frame(ax: Axes, theme: Theme) -> None:
    """No ticks, a thin frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(theme.faint)
        spine.set_linewidth(0.6)
