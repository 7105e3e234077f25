"""One picture that tells the whole result: examples, accuracies and the crossover."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from notbugs.core.errors import DataError
from notbugs.data.writing import write_file
from notbugs.report.figures.bars import draw_bars
from notbugs.report.figures.crossover import draw_det
from notbugs.report.figures.examples import draw_examples, sets_with_pictures
from notbugs.report.figures.style import LIGHT, TITLE, Theme, new_figure, png
from notbugs.report.reading import SAMPLES, Run, read_run

MOST_BYTES = 200_000
SHOWN = ("D", "D_R", "D_NR", "D_rand", "D_det", "D_other")
COLUMNS = 3


def hero(folder: Path, path: Path) -> Path:
    """Writes one wide picture of a run to `path`, a PNG of at most 200 kB; returns `path`.

    Raises:
        DataError: `folder` holds no results or no sample pictures.
        StoreError: `path` cannot be written.

    >>> hero(Path("runs/demo"), Path("docs/result.png"))  # doctest: +SKIP
    """
    run = read_run(folder)
    if not sets_with_pictures(run, SHOWN):
        raise DataError(
            f"'{folder / SAMPLES}' holds no pictures of the sets. Run the experiment again."
        )
    content = _small(draw_hero(run))
    write_file(path, lambda file: file.write(content))
    return path


def draw_hero(run: Run, theme: Theme = LIGHT) -> Figure:
    """The picture as a figure: examples on the left, numbers on the right."""
    figure = new_figure(12.0, 7.4, theme)
    left, right = figure.subfigures(1, 2, width_ratios=[4.3, 7.7], wspace=0.02)
    for part in (left, right):
        part.set_facecolor(theme.paper)
    names = sets_with_pictures(run, SHOWN)
    draw_examples(left, run, names, _different(run, names), theme)
    left.suptitle(
        f"What it was trained on ({run.title})", fontsize=TITLE, color=theme.ink, x=0.02, ha="left"
    )
    top, bottom = right.subplots(2, 1, height_ratios=[1.0, 0.92])
    draw_bars(top, run, theme, controls=False)
    text = "How a model trained on it does on the original test images"
    top.set_title(text, fontsize=TITLE, color=theme.ink, loc="left", pad=24)
    draw_det(bottom, run, theme)
    return figure


def _different(run: Run, names: Sequence[str]) -> list[int]:
    """The first few examples, of different classes as far as there are."""
    count = min(len(run.samples[f"{n}.images"]) for n in names)
    labels = [int(v) for v in run.samples[f"{names[0]}.labels"][:count]]
    firsts = [i for i, label in enumerate(labels) if label not in labels[:i]]
    others = [i for i in range(count) if i not in firsts]
    return sorted((firsts + others)[:COLUMNS])


def _small(figure: Figure) -> bytes:
    """A PNG within the limit: fewer colours first, which line art bears, then fewer pixels."""
    for dpi in (150, 120, 100, 80, 60):
        whole = Image.open(BytesIO(png(figure, dpi))).convert("RGB")
        for colors in (256, 96):
            buffer = BytesIO()
            whole.quantize(colors, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return buffer.getvalue()
    return buffer.getvalue()  # pyright: ignore[reportPossiblyUnboundVariable]
