"""Visualisations of units of EfficientNet-Lite0, and what they are worth by more than the eye.

    .venv/bin/python benchmarks/visualisation.py          # needs notbugs[imagenet]; --quick: tiny

Units of the logits (the classes that a few photographs show) and of the embedding, by pixels,
Fourier coefficients and MaCo, with each method's views exchanged as a control; noise of the
photographs' spectrum; real views. Judged by the activation, by another net (Lite1) and by the
distance to patches of the photographs in a third net (Lite2). Then a canvas of 512 pixels,
accentuations of a photograph, and inversions beside them. Writes
results/visualisation-<date>.json, .md and pictures.
"""

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.data import ImageData, load_source
from notbugs.engine import RandomCrop, Solver, color_root, cropped_view, robust_view, spectrum_of
from notbugs.models import Classifier, frozen
from notbugs.models.imagenet import imagenet
from notbugs.report.figures import png
from notbugs.report.figures.picture_rows import PictureRow, rows_of_pictures
from notbugs.representations import (
    Assessment,
    Priors,
    Visualisation,
    accentuate,
    assess_visualisations,
    faded,
    fourier_solver,
    invert_images,
    lbfgs_inversion,
    maco_solver,
    opacity,
    pixel_solver,
    visualise,
)

RESULTS = Path(__file__).parent / "results"
SIDE, CANVAS = 224, 512
EVERY = 6
"""Of the 420 views for training, which are alike, one in so many is the measure."""
VIEWS = (0.3, 0.9)
"""Shares of the sides that crops show, chosen by the activation of two units after 40 steps: it was
11.3 and 10.2 with these, 2.9 and 1.3 with the paper's, whose canvas is larger than the input."""
CANVAS_VIEWS = (0.25, 0.6)
EMBEDDING_UNITS = 3
TIGER = 292
"""A class that no photograph shows: the cat is accentuated towards it."""
ANCHOR, WEIGHTS = "trunk._blocks.10", (0.0, 20.0)
"""The layer that accentuation keeps, about two thirds up, and the prices of leaving it."""


@dataclass(frozen=True)
class Work:
    """The nets and the photographs' views."""

    model: Classifier
    other: Classifier
    third: Classifier
    real: ImageData
    test: ImageData
    steps: int

    @property
    def classes(self) -> list[int]:
        """The classes that the photographs show, in their order."""
        return list(dict.fromkeys(self.real.labels.tolist()))[: 2 if self.steps < 8 else None]

    def name(self, label: int) -> str:
        """The class's name."""
        return "tiger" if label == TIGER else self.real.class_names[label]

    def embed(self, x: Tensor) -> Tensor:
        """The third net's embedding, of length 1."""
        with frozen(self.third), torch.no_grad():
            return F.normalize(self.third.embed(x), dim=1)

    def views(self, label: int, count: int) -> Tensor:
        """Test views of the photographs of a class."""
        return self.test.pixels((self.test.labels == label).nonzero()[:count, 0])


def methods(work: Work) -> dict[str, tuple[Solver, Priors]]:
    """The contenders and the ablations: each with the views of the other."""
    x, steps = work.real.pixels(), work.steps
    colors, spectrum = color_root(x), spectrum_of(x)
    moved = Priors(transform=robust_view(SIDE))
    crops = Priors(transform=cropped_view((SIDE, SIDE), *VIEWS))
    waves, maco = fourier_solver(steps, colors=colors), maco_solver(steps, spectrum=spectrum)
    return {
        "pixels": (pixel_solver(steps), Priors()),
        "Fourier, moves": (waves, moved),
        "MaCo, crops": (maco, crops),
        "Fourier, crops": (waves, crops),
        "MaCo, no views": (maco, Priors()),
        "MaCo of 1 / f, crops": (maco_solver(steps), crops),
    }


def summary(found: Assessment, at: slice) -> dict[str, Any]:
    """Means and single values of some rows; `known`: the share that the other net names right."""
    assert found.rank is not None
    assert found.distance is not None
    relative, rank, distance = (c[at] for c in (found.relative, found.rank, found.distance))
    return {
        "relative": float(relative.mean()),
        "known": float((rank == 1).float().mean()),
        "median_rank": float(rank.double().quantile(0.5)),
        "distance": float(distance.mean()),
        "each": {
            "relative": relative.tolist(),
            "rank": rank.tolist(),
            "distance": distance.tolist(),
        },
    }


def of_classes(work: Work) -> tuple[dict[str, Any], dict[str, Visualisation]]:
    """The measures of all methods and controls on the classes, and the visualisations."""
    units, made = work.classes, dict[str, Visualisation]()
    for name, (solver, priors) in methods(work).items():
        made[name] = visualise(
            work.model, units, layer="logits", solver=solver, priors=priors, batch_size=2
        )
        print(name, made[name].activation.tolist(), flush=True)
    real = torch.cat([work.views(label, 1) for label in units])
    images = {name: found.x for name, found in made.items()} | {
        "noise of the spectrum": made["MaCo, crops"].start,
        "real views": real,
        "real views, of the next class": real.roll(1, 0),
    }
    seen = work.real.pixels()
    near = RandomCrop(0.5, 1.0)(seen, random.row_keys(len(seen), "patches"))
    found = assess_visualisations(
        work.model,
        torch.cat(list(images.values())),
        units * len(images),
        seen,
        layer="logits",
        other=work.other,
        embed=work.embed,
        patches=near,
        batch_size=16,
    )
    n = len(units)
    table = {name: summary(found, slice(i * n, (i + 1) * n)) for i, name in enumerate(images)}
    apart = torch.cdist(work.embed(real), torch.cat([work.embed(p) for p in near.split(16)]))
    own = work.real.labels == torch.tensor(units)[:, None]
    table["real views"]["of_others"] = float(apart.masked_fill(own, torch.inf).amin(dim=1).mean())
    return table, made


def embedding_units(work: Work) -> list[int]:
    """Coordinates of the embedding that differ most between the views, of a few classes."""
    with frozen(work.model), torch.no_grad():
        seen = torch.cat([work.model.embed(part) for part in work.real.pixels().split(16)])
    means = torch.stack([seen[work.real.labels == label].mean(dim=0) for label in work.classes])
    return means.argmax(dim=1)[:EMBEDDING_UNITS].tolist()


def of_units(work: Work, made: dict[str, Visualisation]) -> tuple[list[PictureRow], dict[str, Any]]:
    """The classes' pictures, and units of the embedding with their numbers."""
    chosen = methods(work)
    rows = list[PictureRow]()
    heads = [work.name(label) for label in work.classes]
    for name, found in made.items():
        rows.append(row(name, found.x, "" if rows else "Units of the logits", heads))
        if name == "MaCo, crops":
            rows.append(row("the same, by gradient", faded(found.x, opacity(found.attribution))))
    rows.append(row("its start", made["MaCo, crops"].start))
    rows.append(row("a photograph", torch.cat([work.views(c, 1) for c in work.classes])))
    numbers: dict[str, Any] = {}
    units = embedding_units(work)
    for name in ("pixels", "MaCo, crops"):
        solver, priors = chosen[name]
        found = visualise(work.model, units, solver=solver, priors=priors, batch_size=2)
        head = "" if name != "pixels" else "Units of the embedding"
        rows.append(row(name, found.x, head, [str(u) for u in units]))
        numbers[name] = {
            "units": units,
            "activation": found.activation.tolist(),
            "dead": found.dead.tolist(),
        }
    return rows, {"embedding": numbers}


def further(work: Work) -> tuple[list[PictureRow], dict[str, Any]]:
    """A canvas, accentuations and inversions."""
    rows, numbers = list[PictureRow](), dict[str, Any]()
    pair = work.classes[:2]
    found = visualise(
        work.model,
        pair,
        layer="logits",
        canvas=(CANVAS, CANVAS),
        solver=maco_solver(work.steps, spectrum=spectrum_of(work.real.pixels())),
        priors=Priors(transform=cropped_view((SIDE, SIDE), *CANVAS_VIEWS)),
        batch_size=1,
    )
    shown = faded(found.x, opacity(found.attribution))
    both = torch.stack([found.x[0], shown[0], found.x[1], shown[1]])
    names = [n for c in pair for n in (work.name(c), "by gradient")]
    rows.append(row("MaCo, 512 pixels", both, "A canvas of 512 pixels", names))
    numbers["canvas"] = {"classes": pair, "activation": found.activation.tolist()}
    cat, label = work.views(pair[0], 1), pair[0]
    for unit in (label, TIGER):
        line, names = [cat], ["the photograph"]
        for weight in WEIGHTS:
            made = accentuate(
                work.model,
                cat,
                unit,
                weight,
                layer="logits",
                anchor=ANCHOR,
                solver=fourier_solver(work.steps // 2, colors=color_root(work.real.pixels())),
                priors=Priors(transform=robust_view(SIDE)),
            )
            line += [made.x, faded(made.x, opacity(made.attribution))]
            names += [f"price {weight:g}", "by gradient"]
            numbers.setdefault("accentuation", {})[f"{work.name(unit)}, price {weight:g}"] = {
                "before": float(made.before),
                "after": float(made.after),
                "moved": float(made.moved),
            }
        head = "" if unit == TIGER else "A photograph, accentuated"
        rows.append(row(f"towards {work.name(unit)}", torch.cat(line), head, names))
    targets = torch.cat([work.views(label, 1) for label in work.classes])
    inverted = invert_images(
        work.model, targets, solver=lbfgs_inversion(work.steps // 2), batch_size=2
    )
    names = [work.name(label) for label in work.classes]
    rows.append(row("the same embedding", inverted.x, "Inversion of photographs", names))
    rows.append(row("the photograph", targets))
    numbers["inversion"] = {"relative_error": inverted.relative_error.tolist()}
    return rows, numbers


def row(name: str, x: Tensor, head: str = "", captions: list[str] | None = None) -> PictureRow:
    return PictureRow(name, list(x.detach().clamp(0, 1).numpy()), head, captions or ())


def written(result: dict[str, Any]) -> str:
    at, away = result["conditions"], result["table"]["real views"]["of_others"]
    lines = [
        "# Visualisations, judged by other nets",
        "",
        f"Images for the {len(result['classes'])} classes of EfficientNet-Lite0's logits that a "
        f"few photographs show, {result['steps']} steps from noise, seed 0. *Activation*: over the "
        f"largest among {result['views']} views of the photographs, mean. *Lite1 agrees*: the "
        "share of images that another net names as that class; *median rank* of the class in it. "
        "*Distance*: in Lite2's embedding, of length 1, to the nearest of as many patches of the "
        f"photographs; to those of the other classes alone a real view has {away:.2f}.",
        "",
        f"{at['processor']}, {at['threads']} thread, commit {at['commit']}, {at['date']}.",
        "",
        "| images | activation | Lite1 agrees | median rank | distance |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["table"].items():
        cells = (
            f"{row['relative']:.2f}",
            f"{100 * row['known']:.0f} %",
            f"{row['median_rank']:g}",
            f"{row['distance']:.2f}",
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="three steps: not a measurement")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    source = load_source("photographs")
    work = Work(
        *(imagenet(f"efficientnet-lite{i}", side=SIDE) for i in range(3)),
        real=source.train.select(slice(0, None, EVERY)),
        test=source.test,
        steps=4 if asked.quick else asked.steps,
    )
    at = conditions(1, {"torch": torch.__version__})
    table, made = of_classes(work)
    result: dict[str, Any] = {
        "conditions": at,
        "classes": {label: work.name(label) for label in work.classes},
        "steps": work.steps,
        "views": len(work.real),
        "crops": VIEWS,
        "table": table,
    }
    path = asked.out / f"visualisation-{'quick-' * asked.quick}{at['date']}"
    save(path, result)
    units, result["units"] = of_units(work, made)
    save(path, result, units=units)
    more, result["more"] = further(work)
    save(path, result, more=more)


def save(path: Path, result: dict[str, Any], **pages: list[PictureRow]) -> None:
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(written(result))
    for name, rows in pages.items():
        picture = Image.open(io.BytesIO(png(rows_of_pictures(rows)))).convert("RGB")
        # Noise compresses badly: 96 colours, without dithering, are a fifth of the file.
        few = picture.quantize(96, dither=Image.Dither.NONE)
        few.save(path.with_name(f"{path.name}-{name}.png"), optimize=True)


if __name__ == "__main__":
    main()
