"""One picture that summarises a run: examples, accuracies and the crossover."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from notbugs.core.errors import DataError
from notbugs.data.writing import write_file
from notbugs.report.figures.bars import draw_bars
from notbugs.report.figures.crossover import draw_det
from notbugs.report.figures.examples import draw_examples, sets_with_pictures, size_of
from notbugs.report.figures.sheet import sheet
from notbugs.report.figures.style import LIGHT, TITLE, Theme, axes_of, fitted, new_figure, png
from notbugs.report.reading import SAMPLES, Run, read_run

MOST_BYTES = 200_000
COLUMNS = 3
NUMBERS, HEAD = 7.7, 0.3
"""Inches: the width of the right half, the line above the examples."""


def hero(folder: Path | str, path: Path | str) -> Path:
    """Writes one wide picture of a run to `path`, a PNG of at most 200 kB; returns `path`.

    **Raises** DataError where `folder` holds no results or no sample pictures; StoreError where
    `path` cannot be written.

    >>> hero(Path("runs/demo"), Path("docs/result.png"))  # doctest: +SKIP
    """
    folder, path = Path(folder), Path(path)
    run = read_run(folder)
    if not sets_with_pictures(run):
        raise DataError(
            f"'{folder / SAMPLES}' holds no pictures of the sets. Run the experiment again."
        )
    content = _small(draw_hero(run))
    write_file(path, lambda file: file.write(content))
    return path


def draw_hero(run: Run, theme: Theme = LIGHT) -> Figure:
    """The picture as a figure: examples on the left, numbers on the right."""
    names = sets_with_pictures(run)
    chosen = _different(run, names)
    width, height = size_of(run, names, chosen)
    height += HEAD
    figure = new_figure(width + NUMBERS, height, theme)
    page = sheet(figure, width, height, theme)
    text = f"What it was trained on ({run.title})"
    words, size = fitted(text, width - 0.2, TITLE)
    page.text(0.1, 0.2, words, size=size, color=theme.ink, parse_math=False)
    draw_examples(page, run, names, chosen, top=HEAD)
    left = (width + 0.15) / (width + NUMBERS)
    top, bottom = axes_of(figure, 2, 1, left=left, height_ratios=[1.0, 0.92])
    draw_bars(top, run, theme, controls=False)
    text = "How a model trained on it does on the original test images"
    top.set_title(text, fontsize=TITLE, color=theme.ink, loc="left", pad=24)
    draw_det(bottom, run, theme)
    return figure


def _different(run: Run, names: Sequence[str]) -> list[int]:
    """The first few examples, of different classes where possible."""
    count = min(len(run.samples[f"{n}.images"]) for n in names)
    labels = [int(v) for v in run.samples[f"{names[0]}.labels"][:count]]
    firsts = [i for i, label in enumerate(labels) if label not in labels[:i]]
    others = [i for i in range(count) if i not in firsts]
    return sorted((firsts + others)[:COLUMNS])


def _small(figure: Figure) -> bytes:
    """A PNG within the limit: with fewer colours first, which line art supports, then smaller."""
    content = b""
    for dpi in (150, 120, 100, 80, 60):
        full = Image.open(BytesIO(png(figure, dpi)), formats=("PNG",)).convert("RGB")
        reduced = full.quantize(256, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE)
        for image in (full, reduced):
            buffer = BytesIO()
            image.save(buffer, "PNG", optimize=True)
            content = buffer.getvalue()
            if len(content) <= MOST_BYTES:
                return content
    return content
