"""The standard evaluation beside AutoAttack's: the images that stand, then the time."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import subjects
import torch
from measure import Peak, Took, counted
from peers import prepare
from subjects import Subject
from table import document, mib, table
from torch import Tensor

from notbugs.engine import Threat
from notbugs.judge import Verdict, diagnose, evaluate, evaluation_pgd
from notbugs.models import Classifier, frozen

OURS, DIAGNOSIS = "notbugs", "notbugs' masking diagnosis"
STEPS = 100
"""Of AutoAttack's standard version; torchattacks' own "standard" runs 10."""
BATCH, SEED = 128, 0
T = TypeVar("T")
NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}
Peer: TypeAlias = Callable[[Classifier, Tensor, Tensor, Threat], Tensor]
"""(model, images, labels, threat) -> the images it makes of them."""


NETS = {
    "robust": subjects.robust_cnn,
    "plain": subjects.small_cnn,
    "norms": subjects.normed,
}


def measured(
    *,
    quick: bool,
    weights: Path | None,
    images: int,
    threats: Sequence[str],
    nets: Sequence[str],
    only: str,
) -> dict[str, Any]:
    """One entry a net and threat: who found what, at what cost, and where they disagree."""
    given = [NETS[name](quick) for name in nets] if weights is None else [subjects.loaded(weights)]
    chosen = [
        Subject(one.name, one.about, one.model, one.data.select(slice(0, images))) for one in given
    ]
    peers = {name: peer for name, peer in PEERS.items() if only in name}
    return {
        "models": {subject.name: subject.described() for subject in chosen},
        "threats": [
            beside(subject, Threat.parse(one), peers) for subject in chosen for one in threats
        ],
        "settings": {
            "images": f"the first {images} of the test part",
            "batch": BATCH,
            "seed": SEED,
            "rounds": 1,
            "peers": (
                "version='standard' on a model with frozen parameters; torchattacks' runs 10 "
                f"steps of its gradient attacks, and once more the standard's {STEPS}"
            ),
        },
    }


def beside(subject: Subject, threat: Threat, peers: dict[str, Peer]) -> dict[str, Any]:
    """All evaluations of the same images, after imports and a short one that warms up."""
    prepare()
    for name in {peer.partition(",")[0] for peer in peers}:
        importlib.import_module(name)
    evaluate(
        subject.model, subject.data, threat, attacks=[evaluation_pgd(threat, steps=2)], seed=SEED
    )
    verdict, mine = run(subject, lambda: ours(subject, threat))
    _, extra = run(subject, lambda: diagnose(subject.model, subject.data, threat, seed=SEED))
    cost = {OURS: mine, DIAGNOSIS: extra}
    robust, differ = {OURS: verdict.robust_accuracy}, dict[str, Any]()
    for name, peer in peers.items():
        standing, cost[name] = run(subject, lambda peer=peer: left_by(peer, subject, threat))
        robust[name] = 100 * float(standing.float().mean())
        differ[name] = {
            "only_the_peer_breaks": rows(verdict.robust & ~standing),
            "only_notbugs_breaks": [
                {"image": i, "by": verdict.attacks[int(verdict.broken_by[i])].name}
                for i in rows(standing & ~verdict.robust)
            ],
        }
    return {
        "model": subject.name,
        "threat": str(threat),
        "images": verdict.n,
        "clean": verdict.clean_accuracy,
        "robust": robust,
        "first_to_break": {one.name: one.broken for one in verdict.attacks},
        "differ": differ,
        "cost": cost,
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


def left_by(peer: Peer, subject: Subject, threat: Threat) -> Tensor:
    """Which images stand, judged from the images that a peer returns."""
    model, x, y = subject.model, subject.x, subject.y
    with frozen(model):
        x_adv = peer(model, x, y, threat)
        with torch.no_grad():
            right = model(x).argmax(dim=1) == y
            return right & (model(x_adv).argmax(dim=1) == y)


def official(model: Classifier, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """By the package of AutoAttack's authors' code."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(
        model,
        norm=NAMES[threat.norm.name],
        eps=threat.eps,
        version="standard",
        device="cpu",
        seed=SEED,
    )
    return attack.run_standard_evaluation(x, y, batch_size=BATCH)[0]


def torchattacks(model: Classifier, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """By torchattacks, as it comes."""
    from torchattacks import AutoAttack

    norm, classes = NAMES[threat.norm.name], model.classes
    return batched(AutoAttack(model, norm, threat.eps, n_classes=classes, seed=SEED), x, y)


def torchattacks_in_full(model: Classifier, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """By torchattacks, with the steps of the standard version."""
    import torchattacks as lib

    how = {"norm": NAMES[threat.norm.name], "eps": threat.eps, "seed": SEED}
    long = how | {"steps": STEPS}
    attacks = [
        lib.APGD(model, **long),
        lib.APGDT(model, n_classes=model.classes, **long),
        lib.FAB(model, multi_targeted=True, n_classes=model.classes, **long),
        lib.Square(model, n_queries=5000, **how),
    ]
    return batched(lib.MultiAttack(attacks), x, y)


def batched(attack: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of batch after batch."""
    return torch.cat([attack(*part) for part in zip(x.split(BATCH), y.split(BATCH), strict=True)])


PEERS: dict[str, Peer] = {
    "pyautoattack": official,
    "torchattacks": torchattacks,
    f"torchattacks, {STEPS} steps": torchattacks_in_full,
}


def rows(mask: Tensor) -> list[int]:
    """The indices at which it is true."""
    return mask.nonzero()[:, 0].tolist()


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, model, strength, time."""
    parts = (_strength(found["threats"]), _disagreements(found["threats"]), _cost(found["threats"]))
    return document("The standard evaluation beside AutoAttack", found, parts)


def _strength(found: list[dict[str, Any]]) -> str:
    everyone = tuple(found[0]["robust"])
    heads = ("model", "threat", "images", "clean %", *(f"robust %, {name}" for name in everyone))
    lines = [
        (
            one["model"],
            one["threat"],
            one["images"],
            f"{one['clean']:.2f}",
            *(f"{one['robust'][name]:.2f}" for name in everyone),
        )
        for one in found
    ]
    text = "## Strength\n\nLower robust accuracy is the stronger evaluation.\n\n"
    broke = [
        f"{one['model']}, {one['threat']}: {_counts(one['first_to_break'])}.\n" for one in found
    ]
    return f"{text}{table(heads, lines)}\nFirst to break, {OURS}:\n\n" + "".join(
        f"- {line}" for line in broke
    )


def _counts(broken: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in broken.items())


def _disagreements(found: list[dict[str, Any]]) -> str:
    heads = ("model", "threat", "peer", "only the peer breaks", f"only {OURS} breaks")
    lines = [
        (
            one["model"],
            one["threat"],
            name,
            ", ".join(map(str, differ["only_the_peer_breaks"])) or "none",
            ", ".join(f"{r['image']} ({r['by']})" for r in differ["only_notbugs_breaks"]) or "none",
        )
        for one in found
        for name, differ in one["differ"].items()
    ]
    return "## Images on which they differ\n\n" + table(heads, lines)


def _cost(found: list[dict[str, Any]]) -> str:
    heads = (
        "model",
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
            one["model"],
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
        "default `evaluate` adds the diagnosis, which the peers have not; it has its own line."
        "\n\n" + table(heads, lines)
    )


def _per_pass(cost: dict[str, Any], images: int) -> str:
    passes = images * (cost["forwards"] + cost["backwards"])
    return f"{1e6 * cost['cpu_seconds'] / passes:.1f}"
