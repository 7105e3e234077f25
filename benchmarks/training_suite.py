"""Robust training: held-out accuracies first, then time, by contender and round."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import subjects
import torch
from measure import Passes, Spread, Took, counted, ratios, seeded
from resnet20 import resnet20
from small_cnn import small_cnn
from training_contenders import OURS, Course, Teach

from notbugs.attacks import apgd
from notbugs.data import ImageData, split
from notbugs.engine import Linf, Threat
from notbugs.judge import evaluate, evaluation_pgd
from notbugs.models import Classifier

STEPS = {"PGD": 20, "APGD": 30}
"""Of the two attacks that judge, both on every image that still stands."""


@dataclass(frozen=True)
class Case:
    """A model, its images (the first of `sets` that is here) and how all train on them."""

    name: str
    sets: tuple[str, ...]
    made: subjects.Build
    course: Course
    images: int
    judged: int


FULL = (
    Case("cnn", ("mnist", "digits"), small_cnn, Course(4, 64, lr=0.1, eps=0.1), 4096, 500),
    Case(
        "resnet20",
        ("cifar10", "planted"),
        resnet20,
        Course(2, 128, lr=0.05, eps=4 / 255),
        2048,
        200,
    ),
)
QUICK = (Case("cnn", ("digits",), small_cnn, Course(2, 64, lr=0.1, eps=0.1), 512, 60),)


def measured(
    contenders: Mapping[str, Teach], *, quick: bool, only: str, rounds: int | None
) -> dict[str, Any]:
    """Every contender on every case; round r trains from seed r."""
    rounds = rounds or (2 if quick else 3)
    found: dict[str, Any] = {"models": {}, "trained": [], "image_gradients": {}}
    for case in QUICK if quick else FULL:
        if only not in case.name:
            continue
        data, judged, described = prepared(case)
        found["models"][case.name] = described
        found["image_gradients"][case.name] = case.course.image_gradients(len(data))
        found["trained"] += compared(case, contenders, data, judged, rounds)
    found["settings"] = {
        "rounds": f"{rounds}, contenders in turn; round r trains from seed r",
        "time": "of the processor, summed over threads, of a whole training",
        "robust accuracy": " and ".join(f"{name}-{steps}" for name, steps in STEPS.items())
        + ", worst case per image",
    }
    return found


def prepared(case: Case) -> tuple[ImageData, ImageData, dict[str, object]]:
    """(images to train on, whole batches of them; images to judge by; what a report says)."""
    source, course = subjects.found(*case.sets), case.course
    parts = split(source, seed=subjects.SEED)
    n = min(case.images, len(parts.train)) // course.batch_size * course.batch_size
    data, judged = parts.train.select(slice(0, n)), parts.test.select(slice(0, case.judged))
    model = case.made(data.shape, data.classes, 0)
    about = (
        f"{source.title}: {course.epochs} epochs of {n} images, batch {course.batch_size}, lr "
        f"{course.lr:g}, PGD-{course.steps} at linf:{course.eps:.3g}; judged on {len(judged)} "
        "test images"
    )
    described = {
        "about": about,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": n,
        "shape": list(data.shape),
    }
    return data, judged, described


def compared(
    case: Case,
    contenders: Mapping[str, Teach],
    data: ImageData,
    judged: ImageData,
    rounds: int,
) -> list[dict[str, Any]]:
    """One row for each contender: accuracies, passes and time."""
    names, course = list(contenders), case.course
    took = {name: Took() for name in names}
    verdicts: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    first = data.select(slice(0, course.batch_size))
    passes = {name: passes_of(contenders[name], case, first) for name in names}  # and warms up
    gc.disable()
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            model = case.made(data.shape, data.classes, turn)
            seeded(turn)
            gc.collect()
            with took[name].round():
                contenders[name](model, data, course, turn)
            verdicts[name].append(judgement(model, judged, course))
    gc.enable()
    gradients = course.image_gradients(len(data))
    return [
        {
            "model": case.name,
            "contender": name,
            "clean": Spread.mean([clean for clean, _ in verdicts[name]]),
            "robust": Spread.mean([robust for _, robust in verdicts[name]]),
            "robust_of_rounds": [robust for _, robust in verdicts[name]],
            "forwards": passes[name][0],
            "backwards": passes[name][1],
            "microseconds_per_image_gradient": Spread.quartiles(
                [1e6 * s / gradients for s in took[name].seconds]
            ),
            "cpu_seconds": Spread.quartiles(took[name].cpu),
            "seconds": took[name],
            "to_ours": {
                mine: ratios(took[name].seconds, took[mine].seconds)
                for mine in OURS
                if mine in took
            },
            "to_ours_wall": {
                mine: ratios(took[name].wall, took[mine].wall) for mine in OURS if mine in took
            },
        }
        for name in names
    ]


def passes_of(teach: Teach, case: Case, batch: ImageData) -> tuple[float, float]:
    """Forward and backward passes an image and epoch: what a second one adds to a first."""
    found: list[Passes] = []
    for epochs in (1, 2):
        model = case.made(batch.shape, batch.classes, 0)
        with counted(model) as one:
            teach(model, batch, replace(case.course, epochs=epochs), 0)
        found.append(one.an_image(len(batch)))
    first, both = found
    return both.forwards - first.forwards, both.backwards - first.backwards


def judgement(model: Classifier, data: ImageData, course: Course) -> tuple[float, float]:
    """Clean and robust accuracy, percent."""
    threat = Threat(Linf(), course.eps)
    attacks = [
        evaluation_pgd(threat, steps=STEPS["PGD"]),
        apgd(Linf(), course.eps, steps=STEPS["APGD"]),
    ]
    verdict = evaluate(model, data, threat, attacks=attacks, fast=False, diagnosis=False)
    return verdict.clean_accuracy, verdict.robust_accuracy


def noise(rows: list[dict[str, Any]]) -> float | None:
    """Two standard errors of a difference of mean robust accuracies, in points; None for n=1.

    Within a round all start from the same weights, so what counts is the spread that is left
    when each contender's mean and each round's are taken out, pooled over all contenders. All
    are judged on the same images.
    """
    found = torch.tensor([row["robust_of_rounds"] for row in rows], dtype=torch.float64)
    k, n = found.shape
    if n < 2 or k < 2:
        return None
    left = found - found.mean(dim=1, keepdim=True) - found.mean(dim=0) + found.mean()
    variance = float(left.square().sum()) / ((k - 1) * (n - 1))
    return 2 * (2 * variance / n) ** 0.5
