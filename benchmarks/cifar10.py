"""CIFAR-10 in as little time as we can: a standard model, and one robust in L2.

    NOTBUGS_DATA=/folder/with/cifar10 .venv/bin/python benchmarks/cifar10.py --only standard
    python benchmarks/cifar10.py --device cuda --seeds 3 --compile default --out "$OUT"
    python benchmarks/cifar10.py --images 2048 --epochs 1 --count 100            # a trial

All 50,000 training images, none held out: settings are those of the papers, and what is looked
at on the way is the training's loss alone. Seconds are those of the training on the clock, loading
and judging left out. On a GPU two steps of another model warm up before each seed; their seconds,
in which a compiled training compiles, are said apart.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from table import table, write

from notbugs.data import ImageData, channel_stats, load_source
from notbugs.engine import Threat
from notbugs.experiments.config import config_for
from notbugs.judge import accuracy, evaluate
from notbugs.models import Classifier, build, prepare
from notbugs.models.folded_copy import has_bf16
from notbugs.models.views import of_views
from notbugs.training import Recipe, train
from notbugs.training.named import AIRBENCH


@dataclass(frozen=True)
class Task:
    """A model, its recipe, what it is judged by and what was published."""

    architecture: str
    recipe: Recipe
    threat: str | None
    published: str


def tasks() -> dict[str, Task]:
    """By name; the robust one is what `notbugs train --recipe pgd` does on a GPU."""
    robust = config_for("cifar10", "gpu")
    return {
        "standard": Task(
            "airbench",
            AIRBENCH,
            None,
            "94.01 % in 3.83 s on an A100, with views (Jordan 2024, arXiv 2404.00498)",
        ),
        "robust": Task(
            robust.net.architecture,
            robust.robust,
            "l2:0.5",
            "90.83 % clean, 69 to 70 % robust, ResNet-50 (Engstrom et al. 2019, robustness 1.0)",
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(tasks()), help="one of the two")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, help="the first so many training images")
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--batch-size", type=int, help="in place of the recipe's")
    parser.add_argument("--count", type=int, help="test images under the standard evaluation")
    parser.add_argument("--compile", help="a mode of torch.compile")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    source = load_source("cifar10")
    assert source.test is not None
    data = source.train if wanted.images is None else source.train.select(slice(0, wanted.images))
    runs: dict[str, list[dict[str, Any]]] = {}
    for name, task in tasks().items():
        if wanted.only in (None, name):
            runs[name] = [
                one(task, data, source.test, seed, wanted) for seed in range(wanted.seeds)
            ]
    found: dict[str, Any] = {
        "conditions": conditions(wanted.threads, {"torch": torch.__version__})
        | {"device": _device(wanted.device), "dtype": _precision(wanted.device)},
        "settings": {k: v for k, v in vars(wanted).items() if k != "out"}
        | {"images": len(data), "set": source.title},
        "runs": runs,
    }
    print(text := report(found))
    write(found, text, wanted.out, "-".join(["cifar10", *([wanted.only] if wanted.only else [])]))


def one(
    task: Task, data: ImageData, test: ImageData, seed: int, wanted: argparse.Namespace
) -> dict[str, Any]:
    """Trains from that seed and judges on all test images."""
    given = {"epochs": wanted.epochs, "batch_size": wanted.batch_size}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = replace(task.recipe, watch_every=0, precision=_precision(wanted.device), **changes)
    few = data.select(slice(0, 2 * recipe.batch_size))
    two = replace(recipe, epochs=1)
    warm = 0.0 if wanted.device == "cpu" else _seconds(task, few, two, seed, wanted)[0]
    seconds, model = _seconds(task, data, recipe, seed, wanted)
    row: dict[str, Any] = {"seed": seed, "warm_up_seconds": warm, "seconds": seconds}
    row["clean"] = accuracy(model, test)
    if task.threat is None:
        row["clean_by_views"] = accuracy(of_views(model), test)
    else:
        few = test if wanted.count is None else test.select(slice(0, wanted.count))
        verdict = evaluate(model, few, Threat.parse(task.threat), seed=seed)
        row |= {"judged": verdict.n, "robust": verdict.robust_accuracy, "ci95": list(verdict.ci95)}
    print(task.architecture, row, flush=True)
    return row


def _seconds(
    task: Task, data: ImageData, recipe: Recipe, seed: int, wanted: argparse.Namespace
) -> tuple[float, Classifier]:
    """Seconds of a training on the clock, and its model."""
    mean, std = channel_stats(data)
    model = build(
        task.architecture, shape=data.shape, classes=data.classes, seed=seed, mean=mean, std=std
    )
    prepare(model, wanted.device)
    began = time.perf_counter()
    train(model, data, recipe, seed=seed, compile_mode=wanted.compile, progress=_Progress())
    if wanted.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began, model


class _Progress:
    """A line for every tenth."""

    def __init__(self) -> None:
        self.said, self.began = 0, time.perf_counter()

    def __call__(self, fraction: float) -> None:
        if int(10 * fraction) > self.said:
            self.said = int(10 * fraction)
            print(f"{fraction:.0%} after {time.perf_counter() - self.began:.0f} s", flush=True)


def _precision(device: str) -> str:
    return "bf16" if has_bf16(torch.device(device)) else "float32"


def _device(device: str) -> str:
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def report(found: dict[str, Any]) -> str:
    """Conditions and a table for each task."""
    given, settings = found["conditions"], found["settings"]
    device = given["processor"] if given["device"] == "cpu" else given["device"]
    lines = [
        f"# CIFAR-10 in little time, {given['date']}\n",
        f"{device}, {given['threads']} threads, {given['dtype']}, load average "
        f"{given['load_average']} at the end, torch {given['versions']['torch']}, commit "
        f"{given['commit']}. {settings['set']}: {settings['images']:,} training images, compile "
        f"{settings['compile']}, epochs {settings['epochs'] or 'of the recipe'}.\n",
    ]
    for name, rows in found["runs"].items():
        task = tasks()[name]
        heads = [k for k in rows[0] if k != "ci95"]
        cells = [[_cell(row[k]) for k in heads] for row in rows]
        lines.append(f"## {name}: {task.architecture}\n\nPublished: {task.published}.\n")
        lines.append(table(heads, cells))
        if len(rows) > 1:
            score = "clean_by_views" if task.threat is None else "robust"
            values = [row[score] for row in rows]
            lines.append(
                f"{score}: {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} "
                f"(standard deviation over {len(rows)} seeds).\n"
            )
    return "\n".join(lines)


def _cell(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
