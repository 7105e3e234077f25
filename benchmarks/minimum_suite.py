"""Minimum-norm attacks: success and distance first, then gradients, time and memory."""

import gc
from typing import Any

import subjects
import torch
from craft import Craft
from measure import Peak, Spread, Took, counted, seeded, timed
from minimum_contenders import OURS, Method, methods
from subjects import Subject
from table import between, document, mib, table
from torch import Tensor

from notbugs.engine import AbstractSize

ROUNDS, LONG = 3, 60.0
"""Timed runs of a contender; one that takes longer (in seconds) is run once."""
NEARER = 0.01
"""A relative difference in distance from which one of two counts as nearer."""


def measured(*, quick: bool, only: str, images: int, rounds: int | None) -> dict[str, Any]:
    """Every method on the same images, which the model has right."""
    subject = subjects.small_cnn(quick).right(images)
    rounds = rounds or (1 if quick else ROUNDS)
    chosen = [method for method in methods(quick) if only in method.name]
    return {
        "models": {subject.name: subject.described()},
        "methods": {one.name: compared(subject, one, rounds) for one in chosen},
        "settings": {
            "images": f"the first {len(subject.data)} that the model has right, one batch",
            "rounds": f"{rounds}, or 1 where a call takes more than {LONG:g} s",
            "seed": 0,
        },
    }


def compared(subject: Subject, method: Method, rounds: int) -> list[dict[str, Any]]:
    """One row of the table for each contender; the first is ours."""
    labels = (subject.y + 1) % subject.model.classes if method.targeted else subject.y
    table = [
        {"contender": name, "size": method.size.name} | run(subject, method, craft, labels, rounds)
        for name, craft in method.contenders.items()
    ]
    mine = table[0]
    for row in table:
        row["nearer_than_ours"] = nearer(row["distances"], mine["distances"])
        row["farther_than_ours"] = nearer(mine["distances"], row["distances"])
    return table


def run(
    subject: Subject, method: Method, craft: Craft, labels: Tensor, rounds: int
) -> dict[str, Any]:
    """Strength, passes and memory of a first run; time of the rounds after it."""
    model, x, first, took = subject.model, subject.x, Took(), Took()
    seeded(0)
    with counted(model) as passes, Peak() as memory:
        x_adv = timed(craft, model, x, labels, first).detach()
    for _ in range(rounds if first.wall[0] < LONG else 0):
        gc.collect()
        timed(craft, model, x, labels, took)
    took = took if took.cpu else first
    distance = distances(subject, method.size, x_adv, labels, targeted=method.targeted)
    success = distance.isfinite()
    each = passes.an_image(len(x))
    return {
        "success": 100 * float(success.float().mean()),
        "median": float(distance.median()),
        "mean": float(distance[success].mean()) if bool(success.any()) else None,
        "distances": distance.tolist(),
        "violation": max(0.0, float(torch.maximum(-x_adv, x_adv - 1).max())),
        "forwards_per_image": each.forwards,
        "backwards_per_image": each.backwards,
        "microseconds_per_image_gradient": (
            1e6 * Spread.quartiles(took.cpu).middle / max(1, passes.backwards)
        ),
        "cpu_seconds": Spread.quartiles(took.cpu),
        "seconds": took,
        "peak_mib": memory.mib,
    }


def distances(
    subject: Subject, size: AbstractSize, x_adv: Tensor, labels: Tensor, *, targeted: bool = False
) -> Tensor:
    """How far each image was moved, [n]; infinite where the model is not fooled."""
    with torch.no_grad():
        said = subject.model(x_adv).argmax(dim=1)
    success = said == labels if targeted else said != labels
    return size.size(x_adv - subject.x).masked_fill(~success, float("inf"))


def nearer(one: list[float], other: list[float]) -> int:
    """The rows on which `one` is nearer by more than `NEARER`."""
    return sum(a < (1 - NEARER) * b for a, b in zip(one, other, strict=True))


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, model, and a table for each method."""
    parts = [_how(), *(_method(name, rows) for name, rows in found["methods"].items())]
    return document("Minimum-norm attacks beside their peers", found, parts)


def _how() -> str:
    return (
        "## Results\n\nJudged by this benchmark from the images that are returned. Success in "
        "percent of the images; the median distance counts a failure as infinitely far, the mean "
        "is over the contender's own successes. *Nearer / farther*: images on which it is nearer, "
        f"or farther, than {OURS} by more than {NEARER:.0%}. Gradients are backward passes an "
        "image, one an output where a method takes the gradient of every output. Times are "
        f"processor seconds of the whole call, median (quartiles), and their ratio to {OURS}'s; "
        "passes and memory are of one more run before those.\n"
    )


def _method(name: str, rows: list[dict[str, Any]]) -> str:
    heads = (
        "contender",
        "success %",
        f"median {rows[0]['size']}",
        "mean",
        "nearer / farther",
        "gradients",
        "forwards",
        "seconds",
        f"/ {OURS}",
        "µs an image-gradient",
        "peak MiB",
    )
    worst = max(row["violation"] for row in rows)
    text = f"### {name}\n\nNo result left the pixel box by more than {worst:.1e}.\n\n"
    return text + table(heads, [_line(row, rows[0]) for row in rows])


def _line(row: dict[str, Any], mine: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["contender"],
        f"{row['success']:.1f}",
        f"{row['median']:.4f}",
        "-" if row["mean"] is None else f"{row['mean']:.4f}",
        "" if row is mine else f"{row['nearer_than_ours']} / {row['farther_than_ours']}",
        f"{row['backwards_per_image']:.0f}",
        f"{row['forwards_per_image']:.0f}",
        between(row["cpu_seconds"]),
        f"{row['cpu_seconds'].middle / mine['cpu_seconds'].middle:.2f}",
        f"{row['microseconds_per_image_gradient']:.1f}",
        mib(row["peak_mib"]),
    )
