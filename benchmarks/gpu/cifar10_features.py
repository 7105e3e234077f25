"""What do perturbations of CIFAR-10 teach? The sets of Ilyas et al. 2019, a factor at a time.

    NOTBUGS_DATA=/folder/with/cifar10 python benchmarks/gpu/cifar10_features.py --seconds 440
    .venv/bin/python benchmarks/gpu/cifar10_features.py --images 512 --epochs 1 --device cpu

Each row: a set made by one source model, and a student trained on it, judged on the true test
images. Rows are made in order, saved one by one, and none is begun after `--seconds`. A row of
`cifar10-features-*.json` that is there already is not made again (`--out` of an earlier run).
"""

import argparse
import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conditions import conditions
from table import table

from notbugs.core import random
from notbugs.data import Augment, ImageData, channel_stats, load_source
from notbugs.engine import Threat
from notbugs.features import (
    InversionSettings,
    inverted_set,
    leakage_control,
    targeted_set,
)
from notbugs.judge import accuracy, evaluate, evaluation_pgd
from notbugs.models import Classifier, build, prepare
from notbugs.models.folded_copy import has_bf16
from notbugs.training import Adversary, Plain, Recipe, train
from notbugs.training.named import AIRBENCH

LONG = replace(AIRBENCH, epochs=30, objective=Plain())
"""How students learn: airbench's recipe, three times as long and without label smoothing."""
SGD = Recipe(
    epochs=24, batch_size=512, lr=0.2, warmup=0.2, augment=Augment(crop_padding=4, flip=True)
)
"""As the experiment's `gpu` preset trains every model."""
SHORT = replace(SGD, epochs=12)
RECIPES = {"": LONG, "24 epochs of SGD": SGD, "12 epochs of SGD": SHORT}
ROBUST = replace(SGD, adversary=Adversary("l2:0.5", steps=3, eps_warmup=0.3, train_mode=True))


@dataclass(frozen=True)
class Row:
    """A set and its student.

    - `set`: "D", "D_adv" (a robust model on the true images), "D_R", "D_NR", "D_rand", "D_det",
      "D_other" or "leak:..." (the leakage control of one)
    - `source`: the model that the set is made by; see `SOURCES`
    - `images`: the first so many training images; None: all
    - `student`, `width`: its architecture; `recipe`: how it learns
    """

    set: str
    eps: float = 0.0
    source: str = "airbench"
    steps: int = 20
    images: int | None = None
    student: str = "airbench"
    width: int = 64
    recipe: Recipe = LONG


SOURCES: dict[str, tuple[str, int, Recipe | None]] = {
    "airbench": ("airbench", 64, AIRBENCH),
    "weak": ("airbench", 64, replace(AIRBENCH, epochs=2)),
    "resnet18": ("resnet18", 64, SHORT),
    "untrained": ("airbench", 64, None),
    "untrained18": ("resnet18", 64, None),
    "shuffled": (
        "airbench",
        64,
        replace(SGD, epochs=60, augment=Augment(), weight_decay=0.0, warmup=0.1),
    ),
    "robust": ("airbench", 64, ROBUST),
}
"""Name -> architecture, width, recipe (None: untrained)."""

MAIN = [Row(name, eps) for eps in (1.0, 0.5) for name in ("D_other", "D_det", "D_rand")]
NOTHING = ("untrained", "untrained18", "shuffled")
"""Sources that have learnt no features: their perturbations are controls."""


def factors(row: Row) -> list[Row]:
    """One thing at a time changed of a row."""
    return [
        replace(row, recipe=replace(row.recipe, augment=Augment())),
        replace(row, recipe=SGD),
        replace(row, recipe=replace(row.recipe, epochs=90)),
        replace(row, recipe=replace(row.recipe, lr=row.recipe.lr / 10)),
        replace(row, steps=100),
        replace(row, images=12500),
        replace(row, source="weak"),
    ]


PARTS: dict[str, list[Row]] = {
    "sets": [Row("D"), *MAIN, *(replace(row, set=f"leak:{row.set}") for row in MAIN)],
    "controls": [
        replace(row, source=source)
        for part in ((MAIN[0], MAIN[3]), (MAIN[1], MAIN[4]))
        for source in ("untrained", "shuffled")
        for row in part
    ],
    "factors": [*factors(MAIN[0]), *factors(MAIN[4]), *factors(MAIN[3])],
    "robust": [
        Row("D_adv", source="robust"),
        Row("D_R", source="robust"),
        Row("D_NR", source="airbench"),
        Row("D_R", source="robust", recipe=SGD),
        Row("D_NR", source="airbench", recipe=SGD),
        Row("D", recipe=SGD),
    ],
    "resnet18-controls": [
        Row("D_other", 1.0, source="untrained18", student="resnet18", recipe=SHORT),
        Row("leak:D_other", 1.0, student="resnet18", recipe=SHORT),
    ],
    "resnet18": [
        replace(row, source="resnet18", student="resnet18", recipe=SHORT)
        for row in (MAIN[0], MAIN[4], MAIN[3], MAIN[5], MAIN[1])
    ],
}


class Bench:
    """The images, models and sets of one run; each model and set is made once."""

    def __init__(self, wanted: argparse.Namespace) -> None:
        """Loads CIFAR-10."""
        source = load_source("cifar10")
        assert source.test is not None
        self.title, self.wanted, self.seed = source.title, wanted, wanted.seed
        self.train, self.test = source.train, source.test
        self.precision = "bf16" if has_bf16(torch.device(wanted.device)) else "float32"
        if wanted.images:
            self.train = self.train.select(slice(0, wanted.images))
            self.test = self.test.select(slice(0, wanted.images))
        self.model, self.made = cache(self._model), cache(self._made)

    def learnt(self, name: str, width: int, recipe: Recipe | None, data: ImageData) -> Classifier:
        """A model trained on `data`, or untrained."""
        mean, std = channel_stats(self.train)
        model = build(
            name,
            shape=data.shape,
            classes=data.classes,
            seed=self.seed,
            mean=mean,
            std=std,
            options={"width": width},
        )
        prepare(model, self.wanted.device)
        if recipe is not None:
            train(model, data, self._fitting(recipe, len(data)), seed=self.seed)
        return model.eval()

    def _fitting(self, recipe: Recipe, images: int) -> Recipe:
        few = {"epochs": self.wanted.epochs} if self.wanted.epochs else {}
        size = min(recipe.batch_size, images)
        return replace(recipe, precision=self.precision, batch_size=size, watch_every=0, **few)

    def _model(self, source: str) -> Classifier:
        name, width, recipe = SOURCES[source]
        data = self.train
        if source == "shuffled":
            order = torch.randperm(len(data), generator=random.generator(self.seed, "shuffled"))
            data = replace(data, labels=data.labels[order])
        began = time.perf_counter()
        model = self.learnt(name, width, recipe, data)
        said = f"{accuracy(model, self.test):.2f} % right, {accuracy(model, data):.2f} % fitted"
        print(f"source {source}: {said}, {time.perf_counter() - began:.1f} s", flush=True)
        return model

    def _made(
        self, name: str, eps: float, source: str, steps: int, images: int | None
    ) -> ImageData:
        data = self.train if images is None else self.train.select(slice(0, images))
        if name in ("D", "D_adv"):
            return data
        big: dict[str, Any] = {"batch_size": 2048, "precision": self.precision}
        if name in ("D_R", "D_NR"):
            settings = InversionSettings(steps=self.wanted.invert, step_size=1.0)
            return inverted_set(
                self.model(source), data, name=name, seed=self.seed, settings=settings, **big
            )
        kind, threat = name.rpartition("D_")[2], Threat.parse(f"l2:{eps}")
        if name.startswith("leak:"):
            return leakage_control(data, kind, threat, seed=self.seed)
        return targeted_set(
            self.model(source),
            data,
            kind,
            threat,
            seed=self.seed,
            steps=steps,
            at_chance=source in NOTHING or bool(self.wanted.images),
            **big,
        )

    def pictures(self, row: Row, data: ImageData) -> None:
        """The first images of a set, above them those that they were made from."""
        if "source_rows" not in data.columns:
            return
        names = [row.set.replace(":", "-"), f"{row.eps:g}", row.source, str(row.steps)]
        x = data.pixels(slice(0, 12))
        shown = torch.cat([self.train.pixels(data.columns["source_rows"][:12]), x])
        rows = torch.cat(list(torch.cat(list(shown.reshape(2, 12, *x.shape[1:])), dim=2)), dim=2)
        whole = (255 * rows.permute(1, 2, 0)).round().byte().numpy()
        large = Image.fromarray(whole).resize((3 * whole.shape[1], 3 * whole.shape[0]), 0)
        (self.wanted.out / "pictures").mkdir(exist_ok=True)
        large.save(self.wanted.out / "pictures" / f"{'-'.join(names)}.png")

    def row(self, row: Row) -> dict[str, Any]:
        """Makes its set, trains its student and measures it."""
        began = time.perf_counter()
        data = self.made(row.set, row.eps, row.source, row.steps, row.images)
        built = time.perf_counter() - began
        self.pictures(row, data)
        if row.set == "D_adv":
            model = self.model(row.source)
        else:
            model = self.learnt(row.student, row.width, row.recipe, data)
        numbers: dict[str, Any] = asdict(row) | {
            "clean": accuracy(model, self.test),
            "shifted": accuracy(model, self.test, (self.test.labels + 1) % self.test.classes),
            "fitted": accuracy(model, data),
            "images_used": len(data),
            "set_seconds": built,
            "seconds": time.perf_counter() - began,
        }
        for name, column in (("source_success", "success"), ("error", "relative_error")):
            if column in data.columns:
                numbers[name] = float(data.columns[column].float().mean())
        if row.set in ("D", "D_adv", "D_R", "D_NR"):
            few = self.test.select(slice(0, min(len(self.test), 2000)))
            for at in ("l2:0.25", "l2:0.5"):
                threat = Threat.parse(at)
                attack = evaluation_pgd(threat, steps=20)
                found = evaluate(model, few, threat, attacks=[attack], batch_size=2000, fast=False)
                numbers[at] = found.robust_accuracy
        if "true_labels" in data.columns:
            numbers["true_labels"] = float(
                (data.labels == data.columns["true_labels"]).float().mean()
            )
        return numbers


HEADS = ("set", "eps", "source", "student", "what", "clean", "shifted", "fitted", "seconds")


def line(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    recipe = _plain(row["recipe"])
    changed = [name for name, known in RECIPES.items() if recipe == _plain(asdict(known))]
    if not changed:
        usual = _plain(asdict(LONG))
        changed = [f"{k} {recipe[k]}" for k in recipe if k != "augment" and recipe[k] != usual[k]]
    if recipe["augment"] == _plain(asdict(Augment())):
        changed.append("no augmentation")
    changed += [f"{k} {row[k]}" for k in ("images", "width", "steps") if row[k] != getattr(Row, k)]
    changed += [f"robust at {k}: {row[k]:.1f}" for k in ("l2:0.25", "l2:0.5") if k in row]
    numbers = [f"{row[k]:.1f}" for k in HEADS[5:]]
    return [
        row["set"],
        f"{row['eps']:g}",
        row["source"],
        row["student"],
        "; ".join(filter(None, changed)),
        *numbers,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=["sets"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=440.0, help="no row begins after these")
    parser.add_argument("--images", type=int, help="the first so many images, for a trial")
    parser.add_argument("--epochs", type=int, help="in place of every recipe's, for a trial")
    parser.add_argument("--invert", type=int, default=40, help="steps of D_R and D_NR")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    wanted = parser.parse_args()
    began = time.perf_counter()
    bench = Bench(wanted)
    name = "-".join(["cifar10-features", *wanted.parts])
    file = wanted.out / f"{name}.json"
    wanted.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "conditions": conditions(torch.get_num_threads(), {"torch": torch.__version__}),
        "settings": {k: str(v) for k, v in vars(wanted).items()} | {"data": bench.title},
        "rows": json.loads(file.read_text())["rows"] if file.exists() else [],
    }
    found["conditions"]["device"] = (
        "cpu" if wanted.device == "cpu" else torch.cuda.get_device_name(wanted.device)
    )
    done = {_named(row) for row in found["rows"]}
    rows = [row for part in wanted.parts for row in PARTS[part] if _named(asdict(row)) not in done]
    for row in dict.fromkeys(rows):
        if time.perf_counter() - began > wanted.seconds:
            print("out of time", flush=True)
            break
        try:
            found["rows"].append(numbers := bench.row(row))
        except (RuntimeError, ValueError):  # the others are still wanted
            traceback.print_exc()
            continue
        print(" | ".join(line(numbers)), f"| set {numbers['set_seconds']:.1f} s", flush=True)
        file.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(text := table(HEADS, map(line, found["rows"])))
    file.with_suffix(".md").write_text(text)


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _named(row: dict[str, Any]) -> str:
    """What tells a row from the others."""
    wanted = {k: row[k] for k in Row.__dataclass_fields__}
    return json.dumps(wanted, sort_keys=True, default=str)


if __name__ == "__main__":
    main()
