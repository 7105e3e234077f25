"""Relative error of representation inversion against steps, for each rule of the engine.

    NOTBUGS_DATA=/folder/with/mnist .venv/bin/python benchmarks/inversion.py

Standard and robust small networks on digits and MNIST; test images, whose embedding is
reached from noise or from another image. Writes results/inversion-<date>.md and .json.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from conditions import conditions

from notbugs.core import random
from notbugs.data import ImageData, load_source, split
from notbugs.engine import (
    L2,
    LBFGS,
    AbstractStepRule,
    Adam,
    Box,
    LowestValue,
    Momentum,
    Solver,
    Steepest,
)
from notbugs.judge import accuracy
from notbugs.models import Classifier, build, frozen
from notbugs.representations import invert, relative_error
from notbugs.training import Adversary, Recipe, train

RESULTS = Path(__file__).parent / "results"
STEPS = (25, 50, 100, 200)
EPS = {"digits": "l2:0.5", "mnist": "l2:1.5"}


def rules(pixels: int) -> dict[str, AbstractStepRule[Any]]:
    """The contenders; lengths of steps grow with the root of the number of pixels."""
    side = math.sqrt(pixels)
    return {
        "normalised, constant 0.1": Steepest(L2(), 0.1),
        "normalised, cosine 0.5": Steepest(L2(), 0.5, "cosine"),
        "normalised, cosine side/8": Steepest(L2(), side / 8, "cosine"),
        "momentum 0.9, cosine side/27": Momentum(L2(), 0.0375 * side, 0.9, "cosine"),
        "Adam 0.1, cosine": Adam(0.1, schedule="cosine"),
        "L-BFGS": LBFGS(distances=True),
    }


def subjects(images: int, only: str | None) -> Iterator[tuple[str, Classifier, ImageData]]:
    """(name, network, test images) of each network."""
    for source, epochs in (("digits", 40), ("mnist", 4)):
        if only and not any(only in f"{source}, {kind}" for kind in ("standard", "robust")):
            continue
        parts = split(load_source(source), seed=0, train_size=700 if source == "digits" else 6000)
        for kind in ("standard", "robust"):
            name = f"{source}, {kind}"
            if only and only not in name:
                continue
            options = {"width": 8, "hidden": 32 if source == "digits" else 64}
            model = build("cnn", shape=parts.train.shape, classes=10, seed=0, options=options)
            adversary = (
                None if kind == "standard" else Adversary(EPS[source], steps=5, eps_warmup=0.5)
            )
            recipe = Recipe(
                epochs=epochs,
                batch_size=32,
                lr=0.1 if source == "digits" else 0.05,
                warmup=0.2,
                adversary=adversary,
            )
            model = train(model, parts.train, recipe, seed=0).model
            yield name, model, parts.test.select(torch.arange(2 * images))


def measured(model: Classifier, data: ImageData, start: str) -> dict[str, Any]:
    """rule -> steps -> median and 90th percentile of the relative error, and seconds."""
    n = len(data) // 2
    x, other, keys = data.pixels()[:n], data.pixels()[n:], random.row_keys(n, "inversion")
    noise = (0.5 + random.normal(random.fold(keys, "noise"), x.shape[1:]) / 20).clamp(0, 1)
    found: dict[str, Any] = {}
    with frozen(model):
        wanted = model.embed(x).detach()
        for name, rule in rules(x[0].numel()).items():
            for steps in STEPS:
                began = time.perf_counter()
                solver = Solver(Box(), rule, steps, keep=LowestValue())
                first = noise if start == "noise" else other
                solution = invert(model.embed, wanted, first, solver=solver, keys=keys)
                error = relative_error(solution, wanted).double()
                found.setdefault(name, {})[str(steps)] = {
                    "median": float(error.median()),
                    "p90": float(error.quantile(0.9)),
                    "seconds": time.perf_counter() - began,
                }
    return found


def halves(result: dict[str, Any], against: str) -> tuple[int, int]:
    """(how often L-BFGS has at most the median error of twice its steps of a rule, of how many)."""
    won = [
        table["L-BFGS"][str(few)]["median"] <= table[against][str(many)]["median"]
        for entry in result["networks"].values()
        for table in entry["starts"].values()
        for few, many in itertools.pairwise(STEPS)
    ]
    return sum(won), len(won)


def written(result: dict[str, Any]) -> str:
    at = result["conditions"]
    lines = [
        "# Inversion: relative error against steps",
        "",
        "||g(x) - g(t)|| / ||g(t)|| of the best point, median / 90th percentile over "
        f"{result['images']} test images; T steps are T gradients. Small CNNs, "
        f"robust ones trained with PGD-5 at {', '.join(EPS.values())}. `side` is the root of the "
        "number of pixels; `s`: seconds of the last column, timed once on a busy machine. "
        "Step lengths of momentum and of side/8 were chosen on digits, with other networks.",
        "",
        f"{at['processor']}, {at['threads']} thread, load {at['load_average']}, commit "
        f"{at['commit']}, {at['date']}.",
    ]
    lines += [
        "",
        "Is the median error of L-BFGS at most that of twice as many steps of a rule?",
        "",
    ]
    for rule in next(iter(next(iter(result["networks"].values()))["starts"].values())):
        if rule != "L-BFGS":
            lines.append("- {}: in {} of {} comparisons".format(rule, *halves(result, rule)))
    for name, entry in result["networks"].items():
        for start, table in entry["starts"].items():
            lines += ["", f"## {name} ({entry['accuracy']:.1f} % right), from {start}", ""]
            lines += ["| rule | " + " | ".join(f"{s} steps" for s in STEPS) + " | s |"]
            lines += ["|---" * (len(STEPS) + 2) + "|"]
            for rule, row in table.items():
                cells = [f"{row[str(s)]['median']:.4f} / {row[str(s)]['p90']:.4f}" for s in STEPS]
                cells.append(f"{row[str(STEPS[-1])]['seconds']:.1f}")
                lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--only", help="part of a network's name, such as 'mnist, robust'")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    at = conditions(1, {"torch": torch.__version__})
    result: dict[str, Any] = {"conditions": at, "images": chosen.images, "networks": {}}
    path = chosen.out / f"inversion-{at['date']}"
    for name, model, data in subjects(chosen.images, chosen.only):
        starts = {s: measured(model, data, s) for s in ("noise", "another image")}
        result["networks"][name] = {"accuracy": accuracy(model, data), "starts": starts}
        path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(written(result))


if __name__ == "__main__":
    main()
