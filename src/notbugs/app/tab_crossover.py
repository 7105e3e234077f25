"""The tab "Crossover": how an image's label moves with eps, for observers and for models."""

from functools import partial

from notbugs.app import markup
from notbugs.app.controls import Controls, row_of
from notbugs.app.crossover import KINDS, Crossover
from notbugs.app.drawings import Curves, curves_of
from notbugs.app.explorer import Explorer
from notbugs.app.tab_attack import magnified
from notbugs.core.errors import bad_value, unknown_name

INTRODUCTION = (
    "Test images are pushed towards a wrong class, their label-to-be, by PGD on one model. Where "
    "models already give the new class, and the nearest training image still has the true one, "
    "the change speaks to models and not to this observer."
)


def drawn(explorer: Explorer) -> dict[tuple[str, str], Curves]:
    """The curves of all models and kinds."""
    return {
        pair: curves_of(found, f"crossover-{i}")
        for i, (pair, found) in enumerate(explorer.crossovers.items())
    }


def answer(
    explorer: Explorer,
    curves: dict[tuple[str, str], Curves],
    source: str,
    kind: str,
    eps: float,
    image: float,
) -> str:
    """HTML of one image at the radius next to eps, and of the shares of all at each.

    **Raises** ValueError for values that no control has.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    if (source, kind) not in curves:
        raise unknown_name("model", source, explorer.subjects.models)
    found = explorer.crossovers[source, kind]
    radii = found.radii.tolist()
    if not isinstance(eps, int | float) or not 0 <= eps <= 1.001 * radii[-1]:  # pyright: ignore
        raise bad_value("eps", f"lie in 0..{radii[-1]:g}", eps, "Move the slider.")
    k = min(range(len(radii)), key=lambda i: abs(radii[i] - eps))
    i = row_of(image, len(found.true))
    classes = explorer.subjects.test.class_names
    true, new = (classes[int(y[i])] for y in (found.true, found.labels))
    scaled, note = magnified(found.images[k, i] - found.images[0, i])
    pictures = [
        markup.image(found.images[0, i], f"The image, a {true}", "image", f"class {true}"),
        markup.image(scaled, f"The change, {note}", "change", note),
        markup.image(
            found.images[k, i], "The pushed image", f"label-to-be {new}", f"ε {radii[k]:g} in L2"
        ),
    ]
    return (
        markup.images(pictures)
        + said_of(found, k, i, classes)
        + shares_at(found, k)
        + markup.scrolled(curves[source, kind].at(k), "curves")
    )


def said_of(found: Crossover, k: int, i: int, classes: tuple[str, ...]) -> str:
    """What all say of an image at a radius."""
    parts: list[str] = []
    for name in found.said:
        said = int(found.said[name][k, i])
        parts.append(f"{name}: {'undecided' if said < 0 else classes[said]}")
    return markup.sentence("What it shows. " + "; ".join(parts) + ".")


def shares_at(found: Crossover, k: int) -> str:
    """A table of the shares at a radius."""
    rows = [
        (name, [(share[k] / 100, f"{share[k]:.0f} %", False) for share in found.shares(name)])
        for name in found.said
    ]
    caption = f"Of {len(found.true)} test images at ε {float(found.radii[k]):g}, given the"
    return markup.bars(["true class", "new class"], rows, caption)


def build(ui: Controls, explorer: Explorer) -> None:
    """The tab's controls, and what they do."""
    gr, curves, names = ui.gr, drawn(explorer), list(explorer.subjects.models)
    radii = explorer.crossovers[names[0], "det"].radii.tolist()
    count = min(len(found.true) for found in explorer.crossovers.values())
    start = radii[len(radii) // 2]
    ui.html(markup.sentence(INTRODUCTION, kind="note"))
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            eps = gr.Slider(0, radii[-1], start, step=radii[1], label="ε, in L2")
            image = gr.Slider(0, count - 1, 0, step=1, label="Image")
            kind = gr.Radio(
                [(words, kind) for kind, words in KINDS.items()], value="det", label="Label-to-be"
            )
            source = gr.Radio(names, value=names[0], label="Pushed on")
        with gr.Column(scale=2, min_width=300):
            result = ui.html(answer(explorer, curves, names[0], "det", start, 0))
    inputs = [source, kind, eps, image]
    ui.on(
        [part.change for part in inputs],
        partial(answer, explorer, curves),
        inputs,
        result,
        "crossover",
    )
