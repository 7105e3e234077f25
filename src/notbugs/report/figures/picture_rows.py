"""Rows of pictures with names, and the figures of engstrom2019 that use them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from notbugs.report.figures.sheet import Array, sheet
from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    SMALL,
    TINY,
    Theme,
    axes_of,
    fitted,
    legend,
    new_figure,
    plain_axes,
    width_of,
)
from notbugs.report.reading import Arrays

MODELS = ("standard", "robust")
NAME, SIDE, GAP, LINE = 1.75, 0.78, 0.07, 0.26
"""Inches: the column of names, a picture, the gap beside it, a line of text."""
WORD, MOST_WIDTH = 0.17, 14.0
"""Inches: a line of captions; the widest that a head makes a figure; a longer one is cut."""
PLAIN: Mapping[str, Any] = {"parse_math": False}
"""Options for text by users, which is never typeset as math."""
MOST = 10


@dataclass(frozen=True)
class PictureRow:
    """A row of pictures [k, c, h, w] (None: empty) with its name and `head` above it.

    `captions`, if given one per picture, are written between head and pictures.
    """

    name: str
    images: Sequence[Array | None]
    head: str = ""
    captions: Sequence[str] = ()


def rows_of_pictures(rows: Sequence[PictureRow], theme: Theme = LIGHT) -> Figure:
    """The rows below each other, pictures of a column in line."""
    count = max(len(row.images) for row in rows)
    width = NAME + count * (SIDE + GAP) + 0.1
    width = max(width, min(MOST_WIDTH, max(width_of(r.head, LABEL, bold=True) for r in rows) + 0.3))
    lines = sum(LINE * bool(row.head) + WORD * bool(row.captions) for row in rows)
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
            middle = NAME + i * (SIDE + GAP) + SIDE / 2
            page.caption(middle, y + WORD - 0.05, caption, width=SIDE, color=theme.faint, size=TINY)
        y += WORD * bool(row.captions)
        name, size = fitted(row.name, NAME - 0.2, SMALL)
        page.text(0.1, y + SIDE / 2, name, size=size, color=theme.faint, va="center", **PLAIN)
        for i, image in enumerate(row.images):
            if image is not None:
                page.image(image, NAME + i * (SIDE + GAP), y, SIDE)
        y += SIDE + GAP
    return figure


def inversion(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """Target images, and the inversions of both models from each start."""
    rows = [PictureRow("target", _of(pictures, "inversion/targets"))]
    for start in ("noise", "another image"):
        key = f"inversion/inverted/{start}"
        rows.append(PictureRow("start", _of(pictures, f"{key}/start"), f"From {start}"))
        rows += [PictureRow(f"{m} model", _of(pictures, f"{key}/{m}")) for m in MODELS]
    return rows_of_pictures(rows, theme)


def paths(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """Interpolations between images: of pixels, and through each representation."""
    rows: list[PictureRow] = []
    for i in range(len(pictures["interpolation/path/pixels"])):
        for name, label in (
            ("pixels", "mixed pixels"),
            ("standard", "standard model"),
            ("robust", "robust model"),
        ):
            frames = list(pictures[f"interpolation/path/{name}"][i])
            rows.append(PictureRow(label, frames, "Pair " + str(i + 1) if name == "pixels" else ""))
    return rows_of_pictures(rows, theme)


def visualisations(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """Visualisations of each class for both models with each prior."""
    variants = [k.rsplit("/", 1)[1] for k in pictures if k.startswith("visualisation/seen/robust/")]
    rows: list[PictureRow] = []
    for variant in sorted(variants, key=lambda v: (v != "no prior", v)):
        for model in MODELS:
            images = _of(pictures, f"visualisation/seen/{model}/{variant}")
            head = variant.capitalize() if model == MODELS[0] else ""
            rows.append(PictureRow(f"{model} model", images, head))
    return rows_of_pictures(rows, theme)


def units(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """Coordinates of the embedding: their visualisations and the most activating images."""
    rows: list[PictureRow] = []
    for model in MODELS:
        key = f"visualisation/units/{model}"
        rows.append(PictureRow("made", _of(pictures, f"{key}/made"), f"{model} model".capitalize()))
        for what, label in (("most", "most active"), ("least", "least active")):
            real = pictures[f"{key}/{what}"]
            for j in range(min(2, real.shape[1])):
                rows.append(PictureRow(f"{label}, {j + 1}", list(real[:MOST, j])))
    return rows_of_pictures(rows, theme)


def pushes(pictures: Arrays, theme: Theme = LIGHT, classes: Sequence[str] = ()) -> Figure:
    """Images with each class's most predictive coordinate lowered and raised."""
    keys = [k for k in pictures if k.startswith("manipulation/pushed/standard/")]
    rows: list[PictureRow] = []
    for key in sorted(keys, key=lambda k: int(k.rsplit("/", 1)[1])):
        c = int(key.rsplit("/", 1)[1])
        left, right = pictures[key], pictures[key.replace("standard", "robust")]
        name = classes[c] if c < len(classes) else str(c)
        head = "Standard model: image, then -1, +½, +1, +2; robust model: the same"
        rows.append(PictureRow(f"towards {name}", [*left, None, *right], head if not rows else ""))
    return rows_of_pictures(rows, theme)


def artefacts(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """High-frequency patterns that activate classes; gradients and generated images."""
    rows: list[PictureRow] = []
    for model in MODELS:
        images = _of(pictures, f"artefacts/pattern/{model}")
        head = "Patterns of high frequency that raise each class" if not rows else ""
        rows.append(PictureRow(f"{model} model", images, head))
    for prefix, head, named in (
        ("downsampling/down/", "Input gradients, by how the classifier halves its maps", _gradient),
        ("downsampling/up/", "Generated images, by how the generator doubles them", _same),
    ):
        keys = [k for k in pictures if k.startswith(prefix)]
        for i, key in enumerate(keys):
            images = [named(image) for image in pictures[key]]
            rows.append(PictureRow(key.removeprefix(prefix), images, "" if i else head))
    return rows_of_pictures(rows, theme)


def spectra(pictures: Arrays, theme: Theme = LIGHT) -> Figure:
    """The power of input gradients, and of images, over frequencies."""
    figure = new_figure(6.2, 3.6, theme)
    ax = axes_of(figure, 1, 1)
    plain_axes(ax, theme)
    frequency = pictures["artefacts/spectrum/frequency"]
    inks = {"standard": theme.vermillion, "robust": theme.blue, "images": theme.faint}
    for name, ink in inks.items():
        label = "images" if name == "images" else f"gradients, {name} model"
        values = np.maximum(pictures[f"artefacts/spectrum/{name}"], 1e-12)
        ax.plot(frequency, values, color=ink, linewidth=2, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("frequency (cycles a pixel)", color=theme.ink, fontsize=LABEL)
    ax.set_ylabel("mean power, spread 1", color=theme.ink, fontsize=LABEL)
    legend(ax, theme)
    return figure


def _of(pictures: Arrays, key: str) -> list[Array]:
    return list(pictures[key][:MOST])


def _gradient(image: Array) -> Array:
    """A gradient around grey, scaled so that black and white are 3 standard deviations."""
    return np.clip(0.5 + image / 6, 0, 1)


def _same(image: Array) -> Array:
    return image


DRAWN: Mapping[str, Callable[..., Figure]] = {
    "inversion": inversion,
    "paths": paths,
    "visualisations": visualisations,
    "units": units,
    "pushes": pushes,
    "spectra": spectra,
    "artefacts": artefacts,
}
