"""The standard evaluation beside AutoAttack's: the images that stand, then the time."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import subjects
import torch
from measure import Peak, Took, counted
from peers import prepare
from subjects import Subject
from table import document, mib, table
from torch import Tensor

from notbugs.engine import Threat
from notbugs.judge import Verdict, diagnose, evaluate, evaluation_pgd
from notbugs.models import frozen

OURS, THEIRS, DIAGNOSIS = "notbugs", "pyautoattack", "notbugs' masking diagnosis"
BATCH, SEED = 128, 0
T = TypeVar("T")
NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def measured(
    *, quick: bool, weights: Path | None, images: int, threats: Sequence[str]
) -> dict[str, Any]:
    """One entry a threat: who found what, at what cost, and where the two disagree."""
    given = subjects.robust_cnn(quick) if weights is None else subjects.loaded(weights)
    data = given.data.select(slice(0, images))
    subject = Subject(given.name, given.about, given.model, data)
    return {
        "models": {subject.name: subject.described()},
        "threats": [beside(subject, Threat.parse(one)) for one in threats],
        "settings": {
            "images": f"the first {len(data)} of the test part",
            "batch": BATCH,
            "seed": SEED,
            "rounds": 1,
            "pyautoattack": "version='standard', on a model with frozen parameters",
        },
    }


def beside(subject: Subject, threat: Threat) -> dict[str, Any]:
    """Both evaluations of the same images, after imports and a short one that warms up."""
    prepare()
    importlib.import_module(THEIRS)
    evaluate(
        subject.model, subject.data, threat, attacks=[evaluation_pgd(threat, steps=2)], seed=SEED
    )
    verdict, mine = run(subject, lambda: ours(subject, threat))
    standing, theirs = run(subject, lambda: official(subject, threat))
    _, extra = run(subject, lambda: diagnose(subject.model, subject.data, threat, seed=SEED))
    return {
        "threat": str(threat),
        "images": verdict.n,
        "clean": verdict.clean,
        "robust": {OURS: verdict.robust, THEIRS: 100 * float(standing.float().mean())},
        "first_to_break": {one.name: one.broken for one in verdict.attacks},
        "only_pyautoattack_breaks": rows(verdict.standing & ~standing),
        "only_notbugs_breaks": [
            {"image": i, "by": verdict.attacks[int(verdict.broken_by[i])].name}
            for i in rows(standing & ~verdict.standing)
        ],
        "cost": {OURS: mine, THEIRS: theirs, DIAGNOSIS: extra},
    }


def run(subject: Subject, call: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """(what the call gave, what it cost)."""
    took, memory = Took(), Peak()
    with counted(subject.model) as passes, memory, took.round():
        given = call()
    cost = vars(passes.an_image(len(subject.y)))
    seconds = {"cpu_seconds": took.cpu[0], "seconds": took.wall[0]}
    return given, {**cost, **seconds, "peak_mib": memory.mib}


def ours(subject: Subject, threat: Threat) -> Verdict:
    """The standard evaluation as a user calls it, but for the diagnosis, timed by itself."""
    return evaluate(
        subject.model, subject.data, threat, batch_size=BATCH, seed=SEED, diagnosis=False
    )


def official(subject: Subject, threat: Threat) -> Tensor:
    """Which images stand, judged from the images that it returns."""
    from pyautoattack import AutoAttack

    model, x, y = subject.model, subject.x, subject.y
    with frozen(model):
        attack = AutoAttack(
            model,
            norm=NAMES[threat.norm.name],
            eps=threat.eps,
            version="standard",
            device="cpu",
            seed=SEED,
        )
        x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=BATCH)
        with torch.no_grad():
            right = model(x).argmax(dim=1) == y
            return right & (model(x_adv).argmax(dim=1) == y)


def rows(mask: Tensor) -> list[int]:
    """The indices at which it is true."""
    return mask.nonzero()[:, 0].tolist()


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, model, strength, time."""
    parts = (_strength(found["threats"]), _disagreements(found["threats"]), _cost(found["threats"]))
    return document("The standard evaluation beside AutoAttack", found, parts)


def _strength(found: list[dict[str, Any]]) -> str:
    heads = ("threat", "images", "clean %", *(f"robust %, {n}" for n in (OURS, THEIRS)))
    lines = [
        (
            one["threat"],
            one["images"],
            f"{one['clean']:.2f}",
            *(f"{one['robust'][name]:.2f}" for name in (OURS, THEIRS)),
        )
        for one in found
    ]
    text = "## Strength\n\nLower robust accuracy is the stronger evaluation.\n\n"
    return text + table(heads, lines)


def _disagreements(found: list[dict[str, Any]]) -> str:
    heads = ("threat", f"only {THEIRS} breaks", f"only {OURS} breaks", f"first to break, {OURS}")
    lines = [
        (
            one["threat"],
            ", ".join(map(str, one["only_pyautoattack_breaks"])) or "none",
            ", ".join(f"{r['image']} ({r['by']})" for r in one["only_notbugs_breaks"]) or "none",
            ", ".join(f"{name} {count}" for name, count in one["first_to_break"].items()),
        )
        for one in found
    ]
    return "## Images on which they differ\n\n" + table(heads, lines)


def _cost(found: list[dict[str, Any]]) -> str:
    heads = (
        "threat",
        "who",
        "seconds",
        "processor seconds",
        f"/ {OURS}",
        "forwards an image",
        "backwards an image",
        "µs an image-pass",
        "peak MiB",
    )
    lines = [
        (
            one["threat"],
            who,
            f"{cost['seconds']:.1f}",
            f"{cost['cpu_seconds']:.1f}",
            f"{cost['cpu_seconds'] / one['cost'][OURS]['cpu_seconds']:.2f}",
            f"{cost['forwards']:.0f}",
            f"{cost['backwards']:.0f}",
            _per_pass(cost, one["images"]),
            mib(cost["peak_mib"]),
        )
        for one in found
        for who, cost in one["cost"].items()
    ]
    return (
        "## Cost\n\nOne run each in one process, ours first; the ratio is of processor "
        "time. The passes were counted while the time was taken, which costs all alike. An image "
        "is any that was given, also one that the model gets wrong or that fell early. By "
        f"default `evaluate` adds the diagnosis, which {THEIRS} has not; it has its own line."
        "\n\n" + table(heads, lines)
    )


def _per_pass(cost: dict[str, Any], images: int) -> str:
    passes = images * (cost["forwards"] + cost["backwards"])
    return f"{1e6 * cost['cpu_seconds'] / passes:.1f}"
