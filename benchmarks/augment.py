"""Random crops and mirroring of a batch: ours beside kornia's, and a loop over images.

    benchmarks/.venv/bin/python benchmarks/augment.py [--device cuda]

All take turns in one process. Ours draws for every row from the row's own key, so that an epoch
can be repeated and cut; the others draw from the global generator.
"""

import argparse
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from table import table, write
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.data import Augment

SHAPES = {
    "CIFAR, 128": (128, 3, 32, 32),
    "CIFAR, 1024": (1024, 3, 32, 32),
    "MNIST, 128": (128, 1, 28, 28),
}
PADDING = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    rows: list[dict[str, Any]] = []
    for name, (n, *shape) in SHAPES.items():
        keys = random.row_keys(n, "augment", device=wanted.device)
        x = random.uniform(keys, tuple(shape))
        ways = contenders(x, keys)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(wanted.rounds + 1):
            for way, augment in ways.items():
                began = time.perf_counter()
                made = augment()
                float(made.sum())
                times[way].append(time.perf_counter() - began)
        own = times["notbugs"][1:]
        for way, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds[1:], own, strict=True)]
            rows.append(
                {
                    "batch": name,
                    "contender": way,
                    "ms": round(1e3 * statistics.median(seconds[1:]), 2),
                    "its time / ours": round(statistics.median(ratios), 2),
                }
            )
    found: dict[str, Any] = {
        "conditions": conditions(wanted.threads, _versions()) | {"device": wanted.device},
        "rows": rows,
    }
    print(text := report(found))
    write(found, text, wanted.out, "augment")


def contenders(x: Tensor, keys: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Crops out of `PADDING` pixels of black, mirrored in half of the cases."""
    import kornia.augmentation as kornia

    side = (x.shape[2], x.shape[3])
    theirs = torch.nn.Sequential(
        kornia.RandomHorizontalFlip(p=0.5), kornia.RandomCrop(side, padding=PADDING)
    )
    ours = Augment(crop_padding=PADDING, flip=True)
    return {
        "notbugs": lambda: ours(x, keys, 0),
        "kornia": lambda: theirs(x),
        "a loop over images": lambda: by_image(x),
    }


def by_image(x: Tensor) -> Tensor:
    """As a dataset's transform would, one image at a time."""
    height, width = x.shape[2:]
    made: list[Tensor] = []
    for image in F.pad(x, (PADDING,) * 4):
        down, across = torch.randint(0, 2 * PADDING + 1, (2,)).tolist()
        cut = image[:, down : down + height, across : across + width]
        made.append(cut.flip(-1) if float(torch.rand(())) < 0.5 else cut)
    return torch.stack(made)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "kornia")}


def report(found: dict[str, Any]) -> str:
    """The table."""
    given = found["conditions"]
    return (
        f"# Batched augmentation, {given['date']}\n\n{given['processor']}, device "
        f"{given['device']}, {given['threads']} threads, load average {given['load_average']} at "
        f"the end, torch {given['versions']['torch']}, kornia {given['versions']['kornia']}, "
        f"commit {given['commit']}. Crops of {PADDING} pixels of padding and mirroring; medians, "
        "ratios within a turn.\n\n"
        + table(list(found["rows"][0]), [list(row.values()) for row in found["rows"]])
    )


if __name__ == "__main__":
    main()
