"""The style of all figures: a colour-blind-safe palette, sizes, and fitted text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from PIL import Image

from notbugs.data.pictures import SOFTWARE

DPI = 160
SLIDE = (1920, 1080)
"""Pixels of a slide."""
TITLE, LABEL, SMALL, TINY = 11.0, 9.5, 8.5, 7.5
"""Font sizes in points."""


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
    figure = Figure(figsize=(width, height), facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def axes_of(figure: Figure, rows: int, columns: int, *, left: float = 0.0, **grid: Any) -> Any:
    """A grid of axes with constrained layout, right of a share `left` of the figure."""
    _make_room(figure, left)
    return figure.subplots(rows, columns, **grid)


def mosaic_of(figure: Figure, names: Sequence[Sequence[str]], **grid: Any) -> Any:
    """Axes by name on a grid of names; one that stands in several cells spans them."""
    _make_room(figure, 0.0)
    return figure.subplot_mosaic([list(row) for row in names], **grid)


def _make_room(figure: Figure, left: float) -> None:
    place = (left, 0.0, 1 - left, 1.0)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, rect=place))


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    buffer = BytesIO()
    metadata = {"Software": SOFTWARE}
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata=metadata
    )
    return buffer.getvalue()


def slide(figure: Figure) -> bytes:
    """The figure as a PNG file of 1920 x 1080 pixels, as large as it fits, in the middle."""
    width, height = figure.get_size_inches()
    content = png(figure, int(min(SLIDE[0] / width, SLIDE[1] / height)))
    drawn = Image.open(BytesIO(content), formats=("PNG",)).convert("RGB")
    page, buffer = Image.new("RGB", SLIDE, to_hex(figure.get_facecolor())), BytesIO()
    page.paste(drawn, ((SLIDE[0] - drawn.width) // 2, (SLIDE[1] - drawn.height) // 2))
    page.save(buffer, "PNG")
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file with its text as text, the same bytes for the same figure."""
    buffer = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": SOFTWARE}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": SOFTWARE})
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
    """A vertical axis from 0 to 100 percent with space for numbers above."""
    ax.set_ylim(0, 108)
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(label, color=theme.ink, fontsize=LABEL)


def chance_line(ax: Axes, chance: float, theme: Theme, *, vertical: bool = False) -> None:
    """A dotted line at the accuracy of guessing."""
    draw = ax.axvline if vertical else ax.axhline
    draw(
        chance,
        color=theme.faint,
        linestyle=(0, (1, 1.6)),
        linewidth=1.4,
        zorder=1.5,
        label=f"chance, {chance:.3g} %",
    )


def legend(ax: Axes, theme: Theme, **place: Any) -> None:
    """A frameless legend in the figure's ink."""
    drawn = ax.legend(
        frameon=False,
        fontsize=SMALL,
        labelcolor=theme.ink,
        handlelength=1.9,
        columnspacing=1.4,
        **place,
    )
    drawn.set_gid("legend")


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a line of text gets, in inches."""
    return _width_at_one_point(text, bold) * size


@lru_cache(maxsize=1024)
def _width_at_one_point(text: str, bold: bool) -> float:
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    across = TextPath((0, 0), text.replace("$", "S"), size=10, prop=font).vertices[:, 0]
    return float(across.max() - across.min()) / 720


def printable(text: str) -> str:
    """The text with a box for every character that the figures' font lacks."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in text)


def fitted(
    text: str, inches: float, size: float, smallest: float = 6.0, *, bold: bool = False
) -> tuple[str, float]:
    """The text and font size with which it fits: smaller first, then cut in the middle.

    Both ends stay: names of classes often begin, or end, alike.
    """
    text = printable(" ".join(text.split()))
    while size > smallest and width_of(text, size, bold=bold) > inches:
        size -= 0.5
    if len(text) <= 2 or width_of(text, size, bold=bold) <= inches:
        return text, size
    low, high = 2, len(text)  # the most characters with which it fits lie in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        fits = width_of(_cut(text, middle), size, bold=bold) <= inches
        low, high = (middle, high) if fits else (low, middle)
    return _cut(text, low), size


def _cut(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2].rstrip()}…{text[-(kept // 2) :].lstrip()}"
