"""A sheet of pictures and text placed in inches: many images in one Axes, for speed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from notbugs.report.figures.style import LABEL, Theme, fitted

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sheet:
    """Axes whose coordinates are inches from the top left corner of its place."""

    ax: Axes
    theme: Theme

    def image(self, image: Array, x: float, y: float, side: float) -> None:
        """Draws an image [c, h, w] of [0, 1] into a square, its pixels sharp, thinly framed."""
        self._draw(picture(image), x, y, side, cmap="gray", vmin=0, vmax=1)

    def text(self, x: float, y: float, text: str, *, size: float, color: str, **style: Any) -> None:
        """Writes trusted text, by default from its baseline's left end."""
        self.ax.text(x, y, text, fontsize=size, color=color, **style)

    def caption(
        self,
        x: float,
        y: float,
        text: str,
        *,
        width: float,
        color: str,
        size: float = LABEL,
        bold: bool = False,
    ) -> None:
        """Writes untrusted text centred at x, fitted to a width in inches, never as math."""
        words, size = fitted(text, width, size, bold=bold)
        weight = "bold" if bold else "normal"
        self.text(
            x, y, words, size=size, color=color, ha="center", fontweight=weight, parse_math=False
        )

    def _draw(self, values: Array, x: float, y: float, side: float, **look: Any) -> None:
        height, width = values.shape[:2]
        w, h = side * min(1, width / height), side * min(1, height / width)
        left, top = x + (side - w) / 2, y + (side - h) / 2
        extent = (left, left + w, top + h, top)
        self.ax.imshow(values, extent=extent, aspect="auto", interpolation="nearest", **look)
        edge = self.theme.faint
        self.ax.add_patch(Rectangle((left, top), w, h, fill=False, edgecolor=edge, linewidth=0.7))


def sheet(figure: Figure, width: float, height: float, theme: Theme) -> Sheet:
    """A sheet of that size in inches in the top left corner of a figure."""
    whole_width, whole_height = (float(v) for v in figure.get_size_inches())
    share = height / whole_height
    ax = figure.add_axes((0.0, 1 - share, width / whole_width, share))
    ax.set_axis_off()
    ax.set_autoscale_on(False)
    ax.set(xlim=(0, width), ylim=(height, 0))
    return Sheet(ax, theme)


def picture(image: Array) -> Array:
    """An image [c, h, w] as matplotlib takes it: [h, w] in grey, else [h, w, 3]."""
    channels = image.shape[0]
    if channels in (3, 4):
        return np.clip(image[:3].transpose(1, 2, 0), 0, 1)
    return np.clip(image.mean(axis=0), 0, 1)
