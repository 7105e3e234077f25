"""The tab "Usefulness": every unit on the plane of rho and gamma, and what it shows."""

from functools import partial
from typing import Any

from notbugs.app import markup
from notbugs.app.controls import Controls
from notbugs.app.drawings import limits_of, plane_of, unit_words
from notbugs.app.explorer import Explorer
from notbugs.app.plane import KINDS
from notbugs.core.errors import bad_value

CLICKS = """
element.addEventListener('click', (event) => {
  const unit = event.target.closest('[id*="-unit-"]');
  if (unit) trigger('select', { unit: unit.id });
});
"""


def drawn(explorer: Explorer) -> dict[str, str]:
    """The plane of each model as HTML; its points are elements m0-unit-0 and so on."""
    classes, limits = explorer.subjects.test.class_names, limits_of(explorer.planes.values())
    return {
        name: f"<section><h3>{markup.text(name)}</h3>"
        + plane_of(found, classes, explorer.threat, f"m{i}", limits)
        + "</section>"
        for i, (name, found) in enumerate(explorer.planes.items())
    }


def places(explorer: Explorer) -> dict[str, tuple[str, int]]:
    """(model, place) of every point, by its element."""
    return {
        f"m{i}-unit-{place}": (name, place)
        for i, (name, found) in enumerate(explorer.planes.items())
        for place in range(len(found.units))
    }


def answer(explorer: Explorer, planes: dict[str, str], point: str) -> tuple[str, str]:
    """HTML of the planes with a point marked, and of its unit.

    **Raises** ValueError for a point that there is not.
    """
    known = places(explorer)
    if point not in known:
        raise bad_value("unit", "be a point of the plane", f"'{str(point)[:40]}'", "Click one.")
    name, i = known[point]
    found, subjects = explorer.planes[name], explorer.subjects
    classes = subjects.test.class_names
    minus = ", of minus the unit" if bool(found.falls[i]) else ""
    words = (
        f"{name}, unit {int(found.units[i])}: {KINDS[int(found.kind[i])]}. Most useful for "
        f"{classes[int(found.best[i])]}{minus}: ρ {float(found.rho[i]):.2f} ± "
        f"{float(found.rho_error[i]):.2f}; under {explorer.threat} an attack on it leaves "
        f"γ {float(found.gamma[i]):.2f} ± {float(found.gamma_error[i]):.2f}."
    )
    train, pictures = subjects.train, list[str]()
    for row in found.highest[i].tolist():
        label = classes[int(train.labels[row])]
        alt = f"A training image that activates it, of class {label}"
        pictures.append(markup.image(train.pixels(slice(row, row + 1))[0], alt, label))
    shown = markup.image(found.shown[i], "An image that maximises the unit", "made to maximise it")
    marked = "".join(planes.values()).replace(f'id="{point}"', f'id="{point}" class="nb-chosen"')
    return (
        f'<div class="nb-planes">{marked}</div>',
        markup.sentence(words)
        + f'<div class="nb-images">{shown}</div>'
        + markup.sentence("The training images that activate it most, with their classes:")
        + f'<div class="nb-images small">{"".join(pictures)}</div>',
    )


def build(ui: Controls, explorer: Explorer) -> None:
    """The tab's controls, and what they do."""
    gr, planes, classes = ui.gr, drawn(explorer), explorer.subjects.test.class_names
    choices = [
        (f"{name}: {unit_words(explorer.planes[name], i, classes)}", point)
        for point, (name, i) in places(explorer).items()
    ]
    first = answer(explorer, planes, choices[0][1])
    ui.html(
        markup.sentence(
            "Each point is a unit of the embedding: to the right the more it tells of its class, "
            "up the more of that is left when images are changed against it. Click one, or choose "
            "it from the list.",
            kind="note",
        )
    )
    shown = ui.html(first[0], js_on_load=CLICKS)
    unit = gr.Dropdown(choices, value=choices[0][1], label="Unit")
    result = ui.html(first[1])

    def clicked(event: Any) -> str:
        return str(getattr(event, "unit", ""))

    clicked.__annotations__["event"] = gr.EventData
    ui.on([shown.select], clicked, None, unit, None)
    ui.on([unit.change], partial(answer, explorer, planes), unit, [shown, result], "unit")
