"""The tab "Inside": what each model's representation keeps of an image."""

from functools import partial

from notbugs.app import markup
from notbugs.app.controls import Controls, class_choices, row_of
from notbugs.app.explorer import Explorer
from notbugs.app.inside import MODES, looked
from notbugs.core.errors import bad_value


def answer(explorer: Explorer, mode: str, image: float, other: float, added: int) -> str:
    """HTML of a mode of `inside.MODES` for every model, on test images by their numbers.

    - `added`: the class whose feature is added

    **Raises** ValueError for values that no control has.
    """
    test = explorer.subjects.test
    if not isinstance(added, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_value("class", f"lie in 0..{test.classes - 1}", added)
    x, end = (test.pixels(slice(i, i + 1)) for i in (row_of(v, len(test)) for v in (image, other)))
    shown: list[str] = []
    with explorer.pool.lent() as subjects:
        for name, model in subjects.models.items():
            known = explorer.attributes[name]
            row = looked(mode, model, x.to(model.device), end.to(model.device), added, known)
            pictures = [
                markup.image(one.cpu(), f"{name}, {caption}", caption)
                for one, caption in zip(row.images, row.captions, strict=True)
            ]
            shown += [f"<h3>{markup.text(name)}</h3>", markup.images(pictures)]
            shown += [markup.sentence(row.text, kind="note")]
    return "".join(shown)


def build(ui: Controls, explorer: Explorer) -> None:
    """The tab's controls, and what they do."""
    gr, test = ui.gr, explorer.subjects.test
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            mode = gr.Radio(list(MODES), value=MODES[0], label="What to do")
            image = gr.Slider(0, len(test) - 1, 0, step=1, label="Test image")
            other = gr.Slider(0, len(test) - 1, 1, step=1, label="Interpolate to test image")
            classes = class_choices(test.class_names)
            added = gr.Dropdown(classes, value=0, label="Add the feature of class")
        with gr.Column(scale=2, min_width=300):
            result = ui.html(ui.start(lambda: answer(explorer, MODES[0], 0, 1, 0)))
    inputs = [mode, image, other, added]
    triggers, work = [part.change for part in inputs], partial(answer, explorer)
    ui.on(triggers, work, inputs, result, "inside", computes=True)
