"""Minimum-norm attacks at equal gradients: who is how far behind the nearest, and on which net."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import subjects
from craft import Craft
from measure import seeded
from minimum_contenders import ORDER, mine
from minimum_suite import distances
from peers import prepare
from subjects import Subject
from table import document, table

from notbugs import attacks as ours
from notbugs.engine import L0, L1, L2, AbstractSize, Linf

SEEDS, STEPS = 3, 50
NETS = {
    "standard": subjects.small_cnn,
    "robust": subjects.robust_cnn,
    "batch norms": subjects.norm_cnn,
}
SIZES = (L2(), Linf(), L1(), L0())


def contenders(size: AbstractSize, steps: int) -> Mapping[str, Craft]:
    """Everyone who takes one gradient an image and step, at `steps` of them."""
    from adv_lib.attacks import alma, ddn, fmn, pdgd, pdpgd, sigma_zero

    norm = ORDER[size.name]
    found: dict[str, Craft] = {
        "notbugs FMN": mine(ours.fmn(size, steps=steps)),
        "adv-lib FMN": lambda model, x, y: fmn(model, x, y, norm=norm, steps=steps),
    }
    if isinstance(size, L0):
        theirs: Craft = lambda model, x, y: sigma_zero(model, x, y, num_steps=steps)  # noqa: E731
        return found | {"adv-lib sigma-zero": theirs}
    found |= {
        "notbugs FAB": mine(ours.fab(size, steps=steps, targets_tried=0)),
        "adv-lib PDPGD": lambda model, x, y: pdpgd(model, x, y, norm=norm, num_steps=steps),
    }
    if isinstance(size, L2):
        found |= {
            "notbugs ALMA": mine(ours.alma(steps=steps)),
            "notbugs DDN": mine(ours.ddn(steps=steps)),
            "adv-lib ALMA": lambda model, x, y: alma(model, x, y, num_steps=steps),
            "adv-lib ALMA, first 0.3, memory 0.5": lambda model, x, y: alma(
                model, x, y, num_steps=steps, init_lr_distance=0.3, α=0.5
            ),
            "adv-lib DDN": lambda model, x, y: ddn(model, x, y, steps=steps, levels=None),
            "adv-lib PDGD": lambda model, x, y: pdgd(model, x, y, num_steps=steps),
        }
    return found


def measured(*, quick: bool, images: int, seeds: int | None) -> dict[str, Any]:
    """The median distance of every contender on every net and seed."""
    prepare()
    nets = {
        f"{kind}, seed {seed}": make(quick, seed).right(images)
        for kind, make in NETS.items()
        for seed in range(seeds or SEEDS)
    }
    steps = 10 if quick else STEPS
    return {
        "models": {name: net.described() for name, net in nets.items()},
        "medians": {
            size.name: {name: medians(net, size, steps) for name, net in nets.items()}
            for size in SIZES
        },
        "settings": {
            "images": f"the first {images} of the test part that the model has right, one batch",
            "steps": f"{steps}, one gradient an image each",
        },
    }


def medians(subject: Subject, size: AbstractSize, steps: int) -> dict[str, float]:
    """The median distance by contender; a failure is infinitely far."""
    found: dict[str, float] = {}
    for name, craft in contenders(size, steps).items():
        seeded(0)
        x_adv = craft(subject.model, subject.x, subject.y).detach()
        found[name] = float(distances(subject, size, x_adv, subject.y).median())
    return found


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, models, and how far each is behind the nearest."""
    parts = [_how(), *(_size(name, nets) for name, nets in found["medians"].items())]
    return document("Minimum-norm attacks at equal gradients", found, parts)


def _how() -> str:
    return (
        "## Results\n\nBy how many percent a contender's median distance is larger than that of "
        "the nearest contender on the same net and images; a failure counts as infinitely far. "
        "The median over the seeds, and in brackets the least and the most.\n"
    )


def _size(name: str, nets: dict[str, dict[str, float]]) -> str:
    behind: dict[str, dict[str, list[float]]] = {}
    for net, by_name in nets.items():
        nearest = min(by_name.values())
        for contender, distance in by_name.items():
            of = behind.setdefault(contender, {}).setdefault(net.partition(",")[0], [])
            of.append(100 * (distance / nearest - 1))
    kinds = list(NETS)
    rows = [(who, *(_spread(of[kind]) for kind in kinds)) for who, of in behind.items()]
    return f"### {name}\n\n" + table(("contender", *kinds), rows)


def _spread(percent: list[float]) -> str:
    return f"{median(percent):.1f} ({min(percent):.1f} to {max(percent):.1f})"
