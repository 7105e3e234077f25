"""Labels lines of a plot directly, where there is space for the names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from notbugs.report.figures.style import SMALL, Theme, printable, width_of

Points = npt.NDArray[np.float64]

GAP, CLEAR, NEAR = 4.0, 2.0, 9.0
"""Points: from a line to its name, kept free around a name, and too near to another line."""
SIDES = ((0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Where a name lies, seen from its place on the line: (right, up), 0 is centred."""


@dataclass(frozen=True)
class _Box:
    """A rectangle in points."""

    x0: float
    y0: float
    x1: float
    y1: float

    def holds(self, points: Points, margin: float) -> int:
        """How many of the points [n, 2] lie in it, or within a margin of it."""
        x, y = points[:, 0], points[:, 1]
        across = (x > self.x0 - margin) & (x < self.x1 + margin)
        return int((across & (y > self.y0 - margin) & (y < self.y1 + margin)).sum())

    def within(self, other: "_Box") -> bool:
        """Whether it lies wholly in another."""
        across = other.x0 <= self.x0 and self.x1 <= other.x1
        return across and other.y0 <= self.y0 and self.y1 <= other.y1

    def meets(self, other: "_Box") -> bool:
        """Whether the two overlap."""
        across = self.x0 < other.x1 and other.x0 < self.x1
        return across and self.y0 < other.y1 and other.y0 < self.y1


def label_lines(ax: Axes, names: Sequence[tuple[Line2D, str]], theme: Theme) -> None:
    """Writes each name beside its line, off the other lines of the axes and off each other.

    Call it when everything else is drawn: the axes' final size and limits count.
    """
    figure: Any = ax.figure
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    extent = ax.get_window_extent()
    frame = _Box(
        *(scale * float(v) for v in (extent.x0 + 2, extent.y0 + 2, extent.x1 - 2, extent.y1 - 2))
    )
    drawn = [line for line in ax.get_lines() if str(line.get_gid() or "").startswith("line:")]
    paths = {line: _dense(scale * ax.transData.transform(line.get_xydata())) for line in drawn}
    taken: list[_Box] = []
    for line, text in names:
        others = [path for other, path in paths.items() if other is not line]
        rest = np.concatenate(others) if others else np.empty((0, 2))
        box = _best(paths[line], rest, printable(text), frame, taken)
        taken.append(box)
        _write(ax, box, scale, text, str(line.get_color()), theme)


def _write(ax: Axes, box: _Box, scale: float, text: str, color: str, theme: Theme) -> None:
    middle = ((box.x0 + box.x1) / 2 / scale, (box.y0 + box.y1) / 2 / scale)
    x, y = ax.transAxes.inverted().transform(middle)
    label = ax.text(
        x,
        y,
        printable(text),
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=SMALL,
        fontweight="bold",
        color=color,
        zorder=5,
        parse_math=False,
        path_effects=[withStroke(linewidth=2.5, foreground=theme.paper)],
    )
    label.set_in_layout(False)
    label.set_gid("name")


def _dense(path: Points, apart: float = 2.0) -> Points:
    """The path with a point every `apart` points of length."""
    path = path[np.isfinite(path).all(axis=1)]
    if len(path) < 2:
        return path
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()])
    positions = np.linspace(0, lengths[-1], max(2, int(lengths[-1] / apart)))
    return np.stack([np.interp(positions, lengths, path[:, i]) for i in (0, 1)], axis=1)


def _best(own: Points, rest: Points, text: str, frame: _Box, taken: Sequence[_Box]) -> _Box:
    """The place along the line where the name covers least."""
    width, height = 72 * width_of(text, SMALL, bold=True) + 2, 1.15 * SMALL
    best, least = _Box(frame.x0, frame.y0, frame.x0 + width, frame.y0 + height), float("inf")
    for i in range(0, len(own), 3):
        for right, up in SIDES:
            x = float(own[i, 0]) + right * (GAP + width / 2)
            y = float(own[i, 1]) + up * (GAP + height / 2)
            box = _Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            cost = 10.0 * (box.holds(own, CLEAR) + box.holds(rest, CLEAR)) + box.holds(rest, NEAR)
            cost += 1e4 * sum(box.meets(other) for other in taken) + 1e6 * (not box.within(frame))
            cost += abs(i / len(own) - 0.4)  # of equal places, one well along the line
            if cost < least:
                best, least = box, cost
    return best
