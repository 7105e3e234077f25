"""The tab "Attack": an image, its perturbation, and what the models say as eps moves."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from notbugs.app import markup
from notbugs.app.attacking import METHODS, MOST_EPS, NORMS, Attacked, attacked
from notbugs.app.controls import Controls, class_choices, row_of
from notbugs.app.explorer import Explorer
from notbugs.app.images import UPLOAD_BYTES, as_text, from_text, uploaded
from notbugs.core.errors import bad_value, unknown_name

UNKNOWN = -1
"""In lists of classes: the true one is not known, or any other is the goal."""
SCALES = ("probabilities", "logits")


def answer(
    explorer: Explorer,
    pixels: str,
    label: int,
    source: str,
    method: str,
    norm: str,
    eps: float,
    target: int,
    scale: str,
) -> str:
    """HTML of an attack on the image that `pixels` holds (`images.as_text`).

    - `label`, `target`: classes, or `UNKNOWN`; `scale`: one of `SCALES`

    **Raises** ValueError for values that no control has.
    """
    test = explorer.subjects.test
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    for name, value in (("label", label), ("target", target)):
        if not isinstance(value, int) or not -1 <= value < test.classes:  # pyright: ignore
            raise bad_value(name, f"be a class or {UNKNOWN}", value)
    x = from_text(pixels, test.shape)
    with explorer.pool.lent() as subjects:
        found = attacked(
            subjects.models,
            source,
            x,
            None if label == UNKNOWN else label,
            method,
            norm,
            eps,
            None if target == UNKNOWN else target,
        )
    classes = test.class_names
    goal = "another class" if target == UNKNOWN else f"class {classes[target]}"
    words = f"{method} on {source}, {norm} {eps:.4g}, away from {classes[found.label]}: {goal} "
    words += "is reached" if found.success else "is not reached"
    far = found.distance > eps * 1.001  # by a method that looks for the nearest success
    words += f" within ε: the nearest found lies at {found.distance:.4g}." if far else "."
    return (
        markup.images(_pictures(found, classes))
        + markup.sentence(words, kind="no" if found.success else "yes")
        + markup.scrolled(_table(found, classes, scale), scale)
    )


def _pictures(found: Attacked, classes: Sequence[str]) -> list[str]:
    change = found.x_adv - found.x
    largest = float(change.abs().max())
    scaled, note = magnified(change[0])
    name = classes[found.label]
    return [
        markup.image(found.x[0], f"The image, of class {name}", "image", f"class {name}"),
        markup.image(scaled, f"The perturbation, {note}", "perturbation", note),
        markup.image(
            found.x_adv[0],
            "The adversarial image",
            "adversarial",
            f"largest change {largest:.3f} of 1",
        ),
    ]


def magnified(change: Tensor) -> tuple[Tensor, str]:
    """A change [c, h, w] around grey, its largest pixel black or white, and by how much."""
    largest = float(change.abs().max())
    if largest == 0:
        return torch.full_like(change, 0.5), "none"
    return 0.5 + change / (2 * largest), f"× {0.5 / largest:.3g}, 0 is grey"


def _table(found: Attacked, classes: Sequence[str], scale: str) -> str:
    columns: dict[str, Tensor] = {}
    for name in found.before:
        for when, logits in (("before", found.before[name]), ("after", found.after[name])):
            columns[f"{name}, {when}"] = logits[0]
    spread = torch.stack(list(columns.values()))
    low, high = float(spread.min()), float(spread.max())

    def cell(logits: Tensor, k: int) -> tuple[float, str, bool]:
        top = int(logits.argmax()) == k
        if scale == "logits":
            value = float(logits[k])
            return (value - low) / max(high - low, 1e-9), f"{value:.1f}", top
        share = float(logits.softmax(dim=0)[k])
        return share, f"{100 * share:.1f} %", top

    rows = [(c, [cell(v, k) for v in columns.values()]) for k, c in enumerate(classes)]
    return markup.bars(list(columns), rows, f"{scale.capitalize()} of each class")


def chosen(explorer: Explorer, row: float) -> tuple[str, int]:
    """A test image as text, and its class."""
    test = explorer.subjects.test
    i = row_of(row, len(test))
    return as_text(test.pixels(slice(i, i + 1))[0]), int(test.labels[i])


def received(explorer: Explorer, text: str) -> tuple[str, int, str]:
    """An uploaded picture as text, no known class, and HTML of what was converted."""
    x, changes = uploaded(text, explorer.subjects.test.shape)
    return as_text(x[0]), UNKNOWN, markup.sentence(" ".join(changes), kind="note")


def build(ui: Controls, explorer: Explorer) -> None:
    """The tab's controls, and what they do."""
    gr, test = ui.gr, explorer.subjects.test
    names = list(explorer.subjects.models)
    first, label = chosen(explorer, 0)
    classes = class_choices(test.class_names)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            row = gr.Slider(0, len(test) - 1, 0, step=1, label="Test image")
            pad = ui.html(
                first,
                html_template=markup.static("pad.html"),
                css_template=markup.static("pad.css"),
                js_on_load=markup.static("pad.js"),
                shape=list(test.shape),
                most=UPLOAD_BYTES,
            )
            note = ui.html()
            true = gr.Dropdown(
                [("not known: leave what the model says", UNKNOWN), *classes],
                value=label, label="True class",
            )  # fmt: skip
            source = gr.Radio(names, value=names[0], label="Attacked model")
            method = gr.Dropdown(list(METHODS), value="pgd", label="Method", filterable=False)
            norm = gr.Radio(list(NORMS), value="linf", label="Threat")
            eps = gr.Slider(
                0, MOST_EPS["linf"], 0.2, step=0.01, label="ε, in pixel units of 0 to 1"
            )
            target = gr.Dropdown([("any other", UNKNOWN), *classes], value=UNKNOWN, label="Target")
            scale = gr.Radio(list(SCALES), value=SCALES[0], label="Show")
        with gr.Column(scale=2, min_width=300):
            result = ui.html(ui.start(lambda: answer(
                explorer, first, label, names[0], "pgd", "linf", 0.2, UNKNOWN, SCALES[0]
            )))  # fmt: skip

    def of_norm(norm: str) -> Any:
        scaled = MOST_EPS["l2"] * (test.pixels(slice(0, 1)).numel() ** 0.5 / 8)
        most = scaled if norm == "l2" else MOST_EPS["linf"]
        return gr.Slider(maximum=most, value=most / 5, step=most / 50)

    ui.on([row.change], partial(chosen, explorer), row, [pad, true], "choose")
    ui.on([pad.upload], partial(received, explorer), pad, [pad, true, note], "upload")
    ui.on([pad.input], lambda: UNKNOWN, None, true, None)
    ui.on([norm.change], of_norm, norm, eps, None)
    inputs = [pad, true, source, method, norm, eps, target, scale]
    triggers, work = [part.change for part in inputs], partial(answer, explorer)
    ui.on(triggers, work, inputs, result, "attack", computes=True)
