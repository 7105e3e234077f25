"""Adversarial examples for the standard and the robust model."""

import numpy as np
from matplotlib.figure import Figure

from notbugs.report.figures.sheet import Sheet, sheet
from notbugs.report.figures.style import LABEL, LIGHT, SMALL, Theme, new_figure
from notbugs.report.reading import Run

MOST = 5
SIDE, GAP, HEAD, LINE = 1.25, 0.22, 0.48, 0.3
"""Inches: a picture, the gap beside it, the heads of the columns, the line below a picture."""
STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
MODELS = ("standard", "robust")


def adversarial(run: Run, theme: Theme = LIGHT) -> Figure:
    """Up to five test images: the magnified perturbation and the prediction of each model."""
    count = min(MOST, len(run.samples["adv.images"]))
    width, height = 5 * (SIDE + GAP) + 0.05, HEAD + max(count, 1) * (SIDE + LINE) + 0.05
    figure = new_figure(width, height, theme)
    page = sheet(figure, width, height, theme)
    if count == 0:
        text = "The standard model got none of the images right that were tried."
        page.text(0.2, height / 2, text, size=LABEL, color=theme.ink)
        return figure
    scale = magnification(run)
    _heads(page, scale)
    for i in range(count):
        _row(page, run, i, scale)
    return figure


def magnification(run: Run) -> float:
    """The largest round factor at which nearly all changes stay within black and white."""
    images = run.samples["adv.images"][:MOST]
    if not len(images):
        return 1
    changes = [run.samples[f"adv.{m}.images"][:MOST] - images for m in MODELS]
    largest = float(np.quantile(np.abs(np.stack(changes)), 0.995))
    fitting = [s for s in STEPS if s * largest <= 0.5]
    return fitting[-1] if fitting else 1


def _place(column: int) -> float:
    return GAP / 2 + 0.025 + column * (SIDE + GAP)


def _heads(page: Sheet, scale: float) -> None:
    heads = ["test image"]
    for model in MODELS:
        heads += [f"change for the\n{model} model, ×{scale:g}", f"changed: the\n{model} model says"]
    for column, head in enumerate(heads):
        x = _place(column) + SIDE / 2
        style = {"ha": "center", "va": "bottom", "linespacing": 1.2}
        page.text(x, HEAD - 0.06, head, size=SMALL, color=page.theme.faint, **style)


def _row(page: Sheet, run: Run, i: int, scale: float) -> None:
    y, theme = HEAD + i * (SIDE + LINE), page.theme
    image, label = run.samples["adv.images"][i], int(run.samples["adv.labels"][i])
    page.image(image, _place(0), y, SIDE)
    _caption(page, 0, y, run.classes[label], theme.ink)
    for j, model in enumerate(MODELS):
        changed = run.samples[f"adv.{model}.images"][i]
        prediction = int(run.samples[f"adv.{model}.said"][i])
        page.change(changed - image, scale, _place(2 * j + 1), y, SIDE)
        page.image(changed, _place(2 * j + 2), y, SIDE)
        right = prediction == label
        predicted_name = run.classes[prediction] if prediction >= 0 else "no class leads"
        words = f"{'✓' if right else '✗'} {predicted_name}"
        _caption(page, 2 * j + 2, y, words, theme.green if right else theme.vermillion)


def _caption(page: Sheet, column: int, y: float, text: str, color: str) -> None:
    x = _place(column) + SIDE / 2
    page.caption(x, y + SIDE + 0.18, text, width=SIDE + 0.1, color=color, bold=True)
