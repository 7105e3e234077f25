"""Training by two processes beside training by one: the same accuracy, and in what time?

    NOTBUGS_DATA=/folder/with/mnist benchmarks/.venv/bin/python benchmarks/processes.py

On one machine's cores two processes of one thread each stand beside one process of two threads,
which uses the same cores, and beside one of one thread, which uses half of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from table import write

HERE = Path(__file__).parent
ALONE, TOGETHER = "1 process, 2 threads", "2 processes, 1 thread"
WAYS = {"1 process, 1 thread": (1, 1), ALONE: (1, 2), TOGETHER: (2, 1)}
"""Name -> (processes, threads of each)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--threat", default="linf:0.1")
    parser.add_argument("--train-size", type=int, default=6_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--count", type=int, default=1_000, help="test images judged")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    wanted = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for seed in range(wanted.seeds):
        for name, (processes, threads) in WAYS.items():
            rows[name].append(one(wanted, seed, processes, threads))
            print(seed, name, rows[name][-1], flush=True)
    found: dict[str, Any] = {
        "conditions": conditions(2, {"torch": torch.__version__}),
        "settings": {k: v for k, v in vars(wanted).items() if k != "out"},
        "runs": rows,
    }
    print(text := report(found))
    write(found, text, wanted.out, "processes")


def one(wanted: argparse.Namespace, seed: int, processes: int, threads: int) -> dict[str, float]:
    """Trains, and judges by PGD-20 in one process; seconds are of the training's loop."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with tempfile.TemporaryDirectory() as folder:
        train = ["-m", "notbugs", "train", "--recipe", "pgd", "--device", "cpu"]
        for name in ("data", "threat", "train_size", "epochs"):
            train += [f"--{name.replace('_', '-')}", str(getattr(wanted, name))]
        train += ["--seed", str(seed), "--out", folder]
        began = time.perf_counter()
        _run([*(torchrun if processes > 1 else []), *train], environment)
        seconds = time.perf_counter() - began
        verdict = Path(folder) / "verdict.json"
        judge = ["-m", "notbugs", "evaluate", folder, "--threat", wanted.threat, "--method", "pgd"]
        judge += ["--count", str(wanted.count), "--json", str(verdict)]
        _run(judge, {**os.environ, "OMP_NUM_THREADS": "2"})
        said = json.loads(verdict.read_text())
    return {
        "seconds": round(seconds, 1),
        "clean": said["clean_accuracy"],
        "robust": said["robust_accuracy"],
    }


def _run(words: list[str], environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)


def report(found: dict[str, Any]) -> str:
    """The table, and what follows from it."""
    given, runs = found["conditions"], found["runs"]
    lines = [
        f"# Two processes beside one, {given['date']}",
        "",
        f"{given['processor']}, {given['cores']} cores, load average {given['load_average']} at "
        f"the end, torch {given['versions']['torch']}, gloo, commit {given['commit']}. "
        + ", ".join(f"{k} {v}" for k, v in found["settings"].items())
        + ". Recipe pgd; seconds on the clock of the whole command, start included.",
        "",
        "| | seconds, each seed | clean %, each seed | robust % (PGD-20), each seed |",
        "| --- | --- | --- | --- |",
    ]
    for name, parts in runs.items():
        keys = ("seconds", "clean", "robust")
        cells = (", ".join(f"{part[key]:.1f}" for part in parts) for key in keys)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs[ALONE], runs[TOGETHER], strict=True)]
    robust = {name: [p["robust"] for p in runs[name]] for name in (ALONE, TOGETHER)}
    gap = abs(statistics.mean(robust[ALONE]) - statistics.mean(robust[TOGETHER]))
    noise = statistics.stdev(robust[ALONE]) if len(ratios) > 1 else float("nan")
    held = "yes" if gap <= noise else "no"
    lines += [
        "",
        f"Same cores: one process takes {statistics.median(ratios):.2f} times as long as two "
        "(median over seeds).",
        f"Robust accuracy differs by {gap:.2f} points in the mean; the standard deviation over "
        f"seeds is {noise:.2f}. Within seed noise: {held}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
