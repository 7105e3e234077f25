"""Rows of pictures with names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from notbugs.report.figures.sheet import Array, sheet
from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    SMALL,
    TINY,
    Theme,
    fitted,
    new_figure,
    width_of,
)

NAME, SIDE, GAP, LINE = 1.75, 0.78, 0.07, 0.26
"""Inches: the column of names, a picture, the gap beside it, a line of text."""
WORD, MOST_WIDTH = 0.17, 14.0
"""Inches: a line of captions; the widest that a head makes a figure; a longer one is cut."""
PLAIN: Mapping[str, Any] = {"parse_math": False}
"""Options for text by users, which is never typeset as math."""


@dataclass(frozen=True)
class PictureRow:
    """A row of pictures [k, c, h, w] (None: empty) with its name and `head` above it.

    `captions`, if given one per picture, are written between head and pictures; in colour where
    `true` has another text, which is written below.
    """

    name: str
    images: Sequence[Array | None]
    head: str = ""
    captions: Sequence[str] = ()
    true: Sequence[str | None] = ()


def rows_of_pictures(rows: Sequence[PictureRow], theme: Theme = LIGHT) -> Figure:
    """The rows below each other, pictures of a column in line."""
    count = max(len(row.images) for row in rows)
    width = NAME + count * (SIDE + GAP) + 0.1
    width = max(width, min(MOST_WIDTH, max(width_of(r.head, LABEL, bold=True) for r in rows) + 0.3))
    lines = sum(
        LINE * bool(row.head) + WORD * bool(row.captions) + WORD * any(row.true) for row in rows
    )
    height = 0.1 + len(rows) * (SIDE + GAP) + lines
    figure = new_figure(width, height, theme)
    page = sheet(figure, width, height, theme)
    y = 0.05
    for row in rows:
        if row.head:
            head, size = fitted(row.head, width - 0.2, LABEL, bold=True)
            page.text(
                0.1, y + LINE - 0.08, head, size=size, color=theme.ink, weight="bold", **PLAIN
            )
            y += LINE
        for i, caption in enumerate(row.captions):
            wrong = bool(row.true) and row.true[i] is not None
            ink, place = theme.vermillion if wrong else theme.faint, _middle(i)
            words: Any = {"width": SIDE, "color": ink, "size": TINY, "bold": wrong}
            page.caption(place, y + WORD - 0.05, caption, **words)
        y += WORD * bool(row.captions)
        name, size = fitted(row.name, NAME - 0.2, SMALL)
        page.text(0.1, y + SIDE / 2, name, size=size, color=theme.faint, va="center", **PLAIN)
        for i, image in enumerate(row.images):
            if image is not None:
                page.image(image, NAME + i * (SIDE + GAP), y, SIDE)
        y += SIDE
        for i, true in enumerate(row.true):
            if true is not None:
                words = {"width": SIDE, "color": theme.faint, "size": TINY}
                page.caption(_middle(i), y + WORD - 0.04, f"really: {true}", **words)
        y += GAP + WORD * any(row.true)
    return figure


def _middle(column: int) -> float:
    return NAME + column * (SIDE + GAP) + SIDE / 2
