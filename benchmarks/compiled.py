"""Does compiling pay? A training step with and without `torch.compile`, and what it costs.

.venv/bin/python benchmarks/compiled.py
python benchmarks/compiled.py --device cuda --modes default reduce-overhead
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from resnet20 import resnet20
from small_cnn import small_cnn
from table import table, write

from notbugs.core import random
from notbugs.data import ImageData
from notbugs.models import Classifier, build, prepare
from notbugs.models.folded_copy import has_bf16
from notbugs.training import Adversary, Recipe
from notbugs.training.trainer import Trainer

HOW = (
    "Steps of adversarial training (PGD-7 in eval mode, then one to learn) and of standard "
    "training, on images of noise: time does not depend on what is seen. Both take turns in one "
    "process; medians, and the ratio eager / compiled within a turn. *Steps to pay*: what "
    "compiling took over what a step saves."
)
NETS = {
    "cnn (MNIST)": ((1, 28, 28), 64, lambda: small_cnn((1, 28, 28), 10, 0)),
    "resnet20 (CIFAR)": ((3, 32, 32), 128, lambda: resnet20((3, 32, 32), 10, 0)),
    "airbench (CIFAR)": ((3, 32, 32), 128, lambda: build("airbench", shape=(3, 32, 32), **TEN)),
    "resnet18 (CIFAR)": ((3, 32, 32), 64, lambda: build("resnet18", shape=(3, 32, 32), **TEN)),
}
TEN: dict[str, Any] = {"classes": 10, "seed": 0}
KINDS = {"standard": None, "PGD-7": Adversary("l2:0.5", steps=7)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="only nets with one of these")
    parser.add_argument("--modes", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    if wanted.device == "cpu" and not shutil.which("g++"):
        raise SystemExit("g++ is not here, and compiling for a processor needs it.")
    torch.set_num_threads(wanted.threads)
    # Nothing compiled before may help: what it costs is measured.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="notbugs-compiled-")
    rows: list[dict[str, Any]] = []
    for name in (name for name in NETS if any(part in name for part in wanted.only)):
        for kind in KINDS:
            for precision in _precisions(wanted.device):
                for row in compared(name, kind, precision, wanted):
                    rows.append(row)
                    print(row, flush=True)
    found: dict[str, Any] = {
        "conditions": conditions(wanted.threads, {"torch": torch.__version__})
        | {"device": wanted.device},
        "rows": rows,
    }
    print(text := report(found))
    write(found, text, wanted.out, "compiled")


def compared(
    name: str, kind: str, precision: str, wanted: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row a mode: seconds of a step by turns, and those of the first one."""
    shape, n, make = NETS[name]
    keys = random.row_keys(n, "compiled")
    data = ImageData(
        random.uniform(keys, shape), torch.arange(n) % 10, tuple(map(str, range(10))), "noise"
    )
    recipe = Recipe(epochs=1, batch_size=n, adversary=KINDS[kind], precision=precision)
    torch.compiler.reset()
    works: dict[str | None, Any] = {}
    first: dict[str | None, float] = {}
    for mode in (None, *wanted.modes):
        model: Classifier = prepare(make(), wanted.device)
        works[mode] = Trainer(model, data, recipe, compile_mode=mode)
        model.train()
        first[mode] = _step(works[mode], n, wanted.device)
    times: dict[str | None, list[float]] = {mode: [] for mode in works}
    for _ in range(wanted.rounds + 1):
        for mode, work in works.items():
            times[mode].append(_step(work, n, wanted.device))
    rows: list[dict[str, Any]] = []
    eager = statistics.median(times[None][1:])
    for mode in wanted.modes:
        step = statistics.median(times[mode][1:])
        cost = first[mode] - step
        saved = eager - step
        rows.append(
            {
                "net": name,
                "step": kind,
                "precision": precision,
                "mode": mode,
                "batch": n,
                "eager_ms": round(1e3 * eager, 1),
                "compiled_ms": round(1e3 * step, 1),
                "ratio": round(
                    statistics.median(
                        a / b for a, b in zip(times[None][1:], times[mode][1:], strict=True)
                    ),
                    2,
                ),
                "compile_seconds": round(cost, 1),
                "steps_to_pay": round(cost / saved) if saved > 0 else None,
            }
        )
    return rows


def _step(work: Any, n: int, device: str) -> float:
    began = time.perf_counter()
    float(work.step(0, torch.arange(n, device=device), 0.01))
    return time.perf_counter() - began


def _precisions(device: str) -> tuple[str, ...]:
    return ("float32", "bf16") if has_bf16(torch.device(device)) else ("float32",)


def report(found: dict[str, Any]) -> str:
    """The table."""
    given = found["conditions"]
    heads = list(found["rows"][0])
    cells = [["never" if v is None else v for v in row.values()] for row in found["rows"]]
    return (
        f"# Compiled training steps, {given['date']}\n\n"
        f"{given['processor']}, device {given['device']}, {given['threads']} threads, load average "
        f"{given['load_average']} at the end, torch {given['versions']['torch']}, commit "
        f"{given['commit']}. {HOW}\n\n{table(heads, cells)}"
    )


if __name__ == "__main__":
    main()
