"""64 inversions of 28 x 28 images beside a plain PyTorch loop that does the same.

    NOTBUGS_DATA=/folder/with/mnist .venv/bin/python benchmarks/inversion_speed.py

Both take normalised L2 gradient steps of one length within [0, 1], on the same network with
frozen parameters, from the same noise; rounds alternate. The plain loop keeps its last point, ours
the best. Peak memory is measured in processes of their own. Writes
results/inversion-speed-<date>.md and .json.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from conditions import conditions
from table import write
from torch import Tensor

from notbugs.core import random
from notbugs.data import load_source, split
from notbugs.models import Classifier, build, frozen
from notbugs.representations import inversion, invert, relative_error
from notbugs.training import Recipe, train

RESULTS = Path(__file__).parent / "results"
STEP_SIZE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", type=int, help="prints the peak (KiB) of that many steps")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    model, start, target = subject(wanted.images)
    if wanted.memory_of is not None:
        ours(model, start, target, wanted.memory_of)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    times: dict[str, list[float]] = {"plain loop": [], "notbugs": []}
    errors: dict[str, float] = {}
    for _ in range(wanted.rounds):
        for name, run in (("plain loop", plain), ("notbugs", ours)):
            began = time.perf_counter()
            errors[name] = run(model, start, target, wanted.steps)
            times[name].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(times["notbugs"], times["plain loop"], strict=True)]
    peaks = {steps: peak(wanted.images, steps) for steps in (10, wanted.steps)}
    report(wanted, times, errors, ratios, peaks)


def subject(images: int) -> tuple[Classifier, Tensor, Tensor]:
    """A standard network for MNIST, noise, and the embeddings of test images."""
    parts = split(load_source("mnist"), seed=0, train_size=4000)
    model = build("cnn", shape=(1, 28, 28), classes=10, seed=0, options={"width": 16})
    train(model, parts.train, Recipe(epochs=3, lr=0.05), seed=0)
    x = parts.test.pixels(torch.arange(images))
    start = 0.5 + random.normal(random.row_keys(images, "start"), (1, 28, 28)) / 20
    with frozen(model), torch.no_grad():
        return model, start.clamp(0, 1), model.embed(x)


def plain(model: Classifier, start: Tensor, target: Tensor, steps: int) -> float:
    """The loop as one writes it by hand; the mean relative error in the end."""
    x = start.clone()
    with frozen(model):
        for _ in range(steps):
            x.requires_grad_()
            loss = (model.embed(x) - target).norm(dim=1).sum()
            slope = torch.autograd.grad(loss, x)[0]
            with torch.no_grad():
                length = slope.flatten(1).norm(dim=1)[:, None, None, None]
                x = (x - STEP_SIZE * slope / (length + 1e-10)).clamp(0, 1)
        with torch.no_grad():
            error = (model.embed(x) - target).norm(dim=1) / target.norm(dim=1)
    return float(error.mean())


def ours(model: Classifier, start: Tensor, target: Tensor, steps: int) -> float:
    """The same by the engine."""
    keys = random.row_keys(len(start), "keys")
    with frozen(model):
        found = invert(model.embed, target, start, solver=inversion(steps, STEP_SIZE), keys=keys)
    return float(relative_error(found, target).mean())


def peak(images: int, steps: int) -> int:
    """Peak memory (KiB) of a process that takes so many steps."""
    command = [sys.executable, __file__, "--images", str(images), "--memory-of", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def report(
    wanted: argparse.Namespace,
    times: dict[str, list[float]],
    errors: dict[str, float],
    ratios: list[float],
    peaks: dict[int, int],
) -> None:
    here = conditions(torch.get_num_threads(), {"torch": torch.__version__})
    middle = {name: statistics.median(values) for name, values in times.items()}
    few, many = sorted(peaks)
    lines = [
        f"# {wanted.images} inversions of 28 x 28 images, {wanted.steps} steps",
        "",
        f"MNIST, a small CNN; normalised L2 steps of {STEP_SIZE}; {wanted.rounds} alternating "
        f"rounds. Conditions: {json.dumps(here)}",
        "",
        "| loop | seconds (median) | ms a step | mean relative error |",
        "|---|---|---|---|",
    ]
    for name, seconds in middle.items():
        per_step = 1000 * seconds / wanted.steps
        lines.append(f"| {name} | {seconds:.2f} | {per_step:.2f} | {errors[name]:.4f} |")
    lines += [
        "",
        f"Time of notbugs / plain loop: median {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}); wanted: at most 1.1.",
        "",
        f"Peak memory of the process: {peaks[few] / 1024:.0f} MiB with {few} steps, "
        f"{peaks[many] / 1024:.0f} MiB with {many}.",
    ]
    record = {"conditions": here, "times": times, "errors": errors, "ratios": ratios}
    text = "\n".join(lines) + "\n"
    write(record | {"peaks_kib": peaks}, text, wanted.out, "inversion-speed")
    print(text)


if __name__ == "__main__":
    main()
