"""What it takes to fool the standard and the robust model, picture by picture."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    SMALL,
    Array,
    Theme,
    fitted,
    frame,
    new_figure,
    show,
)
from notbugs.report.reading import Run

MOST = 5
CELL = 1.4
STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
MODELS = ("standard", "robust")


def adversarial(run: Run, theme: Theme = LIGHT) -> Figure:
    """Up to five test images: the change on each model, magnified, and what the model says."""
    images = run.samples["adv.images"]
    count = min(MOST, len(images))
    figure = new_figure(5 * CELL + 0.3, 0.6 + 1.52 * max(count, 1), theme)
    if count == 0:
        text = "The standard model got none of the images right that were tried."
        figure.text(0.5, 0.5, text, ha="center", color=theme.ink, fontsize=LABEL)
        return figure
    scale = magnification(run)
    grid = figure.subplots(count, 5, squeeze=False)
    for i, (first, *cells) in enumerate(grid):
        label = int(run.samples["adv.labels"][i])
        show(first, images[i], theme)
        _caption(first, run.classes[label], theme.ink)
        for j, model in enumerate(MODELS):
            changed = run.samples[f"adv.{model}.images"][i]
            said = int(run.samples[f"adv.{model}.said"][i])
            show_change(cells[2 * j], changed - images[i], scale, theme)
            show(cells[2 * j + 1], changed, theme)
            _said(cells[2 * j + 1], run.classes[said], said == label, theme)
    _heads(grid[0], scale, theme)
    return figure


def magnification(run: Run) -> float:
    """The largest round factor at which nearly all changes stay within black and white."""
    images = run.samples["adv.images"][:MOST]
    changes = [run.samples[f"adv.{m}.images"][:MOST] - images for m in MODELS]
    largest = float(np.quantile(np.abs(np.stack(changes)), 0.995))
    fitting = [s for s in STEPS if s * largest <= 0.5]
    return fitting[-1] if fitting else 1


def show_change(ax: Axes, change: Array, scale: float, theme: Theme) -> None:
    """A change [c, h, w], magnified: one channel from blue to red, colours around grey."""
    frame(ax, theme)
    if change.shape[0] == 3:
        show(ax, 0.5 + scale * change, theme)
        return
    limit = 0.5 / scale
    ax.imshow(
        change.mean(axis=0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )


def _heads(axes: Array, scale: float, theme: Theme) -> None:
    times = f", ×{scale:g}"
    heads = ["test image"]
    for model in MODELS:
        heads += [f"change for the\n{model} model{times}", f"changed: the\n{model} model says"]
    for ax, head in zip(axes, heads, strict=True):
        ax.set_title(head, fontsize=SMALL, color=theme.faint, pad=6, linespacing=1.2)


def _said(ax: Axes, name: str, right: bool, theme: Theme) -> None:
    mark = "✓" if right else "✗"
    _caption(ax, f"{mark} {name}", theme.green if right else theme.vermillion)


def _caption(ax: Axes, text: str, color: str) -> None:
    text, size = fitted(text, CELL - 0.15, LABEL)
    ax.set_xlabel(text, fontsize=size, color=color, labelpad=3, parse_math=False)
    ax.xaxis.label.set_fontweight("bold")
