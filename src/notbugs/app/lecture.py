"""A page for lectures, without a server: a folder of plain files that any host can serve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from torch.nn import functional

from notbugs.app import markup
from notbugs.app.crossover import OBSERVER, Crossover
from notbugs.app.drawings import curves_of
from notbugs.core.errors import bad_value
from notbugs.data.pictures import picture_png
from notbugs.data.writing import new_folder, write_json
from notbugs.report.rendering import template

PAGE, NUMBERS = "index.html", "crossover.json"
SHOWN, GALLERY = 10, 20
"""Images that are followed over eps, and images of the gallery."""
UNSEEN = 5.0
"""Percent of images whose new class the observer of the gallery's radius may see."""
SLIDERS: Mapping[str, tuple[str, float, float, float, float]] = {
    "length": ("Distance of each mean from 0", 0.2, 3.0, 0.05, 1.2),
    "angle": ("Direction of the mean, degrees", 0.0, 90.0, 1.0, 45.0),
    "first": ("Variance along the first axis", 0.05, 4.0, 0.05, 0.2),
    "second": ("Variance along the second axis", 0.05, 4.0, 0.05, 2.0),
    "eps": ("ε of the adversary, in L2", 0.05, 2.0, 0.05, 0.5),
}
"""Of the Gaussian classes: (words, least, most, step, at first)."""


def write_lecture(folder: Path, found: Crossover, classes: Sequence[str], name: str) -> Path:
    """Writes the page of a crossover into a new folder, and returns the page's path.

    `index.html` holds styles, script and numbers; beside it lie the pictures, which it shows, and
    `crossover.json` with the numbers again. It names no other host.

    - `classes`: their names; `name`: of the data

    **Raises** ValueError for fewer than 20 images; StoreError where the folder is there and not
    empty, or cannot be written.
    """
    if len(found.true) < GALLERY:
        raise bad_value("found", f"hold {GALLERY} images", len(found.true), "Push more images.")
    numbers, radius = _numbers(found, classes), unseen(found)
    curves = curves_of(found, "curves")
    places = {"x": list(curves.places)}
    page = template("lecture.html.j2").render(
        name=name,
        curves=Markup(curves.at(0)),
        variables=Markup(
            markup.variables("@media screen and (prefers-color-scheme: dark) {{ :root {{ {} }} }}")
        ),
        data={**numbers, "places": places},
        radii=found.radii.tolist(),
        count=len(found.true),
        shown=range(SHOWN),
        sliders=SLIDERS,
        gallery=_gallery(found, radius, classes),
        eps=float(found.radii[radius]),
        shares={name: found.shares(name)[1][radius] for name in found.said},
        unseen=UNSEEN,
        observer=OBSERVER,
    )
    with new_folder(folder) as part:
        for k in range(len(found.radii)):
            framed = functional.pad(found.images[k, :SHOWN], (1, 1, 1, 1), value=0.5)
            row = torch.cat(list(framed), dim=2)
            (part / f"images-{k:02}.png").write_bytes(picture_png(row))
        for i in range(GALLERY):
            (part / f"gallery-{i:02}.png").write_bytes(picture_png(found.images[radius, i]))
        write_json(part / NUMBERS, numbers)
        (part / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def unseen(found: Crossover) -> int:
    """The place of the largest radius up to which the observer sees at most 5 % of new classes."""
    new = found.shares(OBSERVER)[1]
    seen = [k for k, share in enumerate(new) if share > UNSEEN]
    return max(0, (seen[0] if seen else len(new)) - 1)


def _numbers(found: Crossover, classes: Sequence[str]) -> dict[str, Any]:
    said = {name: said[:, :SHOWN].tolist() for name, said in found.said.items()}
    return {
        "names": list(found.said),
        "radii": found.radii.tolist(),
        "classes": list(classes),
        "true": found.true[:SHOWN].tolist(),
        "labels": found.labels[:SHOWN].tolist(),
        "said": said,
        "shares": {
            name: dict(zip(("true", "new"), found.shares(name), strict=True)) for name in found.said
        },
    }


def _gallery(found: Crossover, k: int, classes: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "file": f"gallery-{i:02}.png",
            "label": classes[int(found.labels[i])],
            "true": classes[int(found.true[i])],
        }
        for i in range(GALLERY)
    ]
