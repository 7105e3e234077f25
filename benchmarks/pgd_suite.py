"""PGD: equal success at a fixed budget first, then the time of a call and of a step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import subjects
import torch
from craft import Craft, Setting
from measure import Peak, Spread, Took, passes, ratios, seeded, slopes, times
from pgd_contenders import OURS, PLAIN, in_strength, in_time, plain
from subjects import Subject
from torch import Tensor

from notbugs.engine import NORMS, BallInBox
from notbugs.models.folded_copy import copy_to_attack

CROSSING = 2.5
"""step_size = CROSSING * eps / steps, for all alike."""
LOWEST, HIGHEST = {"linf": 1e-3, "l2": 1e-2}, {"linf": 0.5, "l2": 10.0}
HALVINGS = 8
ON_THE_CLOCK, OF_THE_PROCESSOR = "on the clock", "of the processor, summed over threads"


class Case(NamedTuple):
    """How a subject is measured.

    - `lengths`: steps of the calls that are timed; of two, the slope between them is the cost
      of a step
    - `images`: of the timed batch, all of which the model has right
    - `seeds`: random starts of the strength measurement
    """

    name: str
    make: Callable[[bool], Subject]
    norms: tuple[str, ...]
    lengths: tuple[int, ...]
    images: int
    seeds: int


FULL = (
    Case("linear", subjects.linear, ("linf", "l2"), (20, 100), 128, 20),
    Case("cnn", subjects.mnist_cnn, ("linf", "l2"), (20,), 128, 10),
    Case("resnet20", subjects.cifar_resnet, ("linf",), (20,), 128, 3),
)
QUICK = (
    Case("linear", subjects.linear, ("linf", "l2"), (5, 20), 128, 3),
    Case("cnn", subjects.mnist_cnn, ("linf",), (5,), 32, 2),
    Case("resnet20", subjects.cifar_resnet, ("linf",), (5,), 16, 1),
)
ROUNDS, SECONDS = {False: 5, True: 2}, {False: 20.0, True: 1.0}
"""Timed rounds at least, and how long they go on for each model and norm; full or quick."""


def measured(*, quick: bool, only: str, rounds: int | None, clock: bool = False) -> dict[str, Any]:
    """Everything of the suite, as plain values and `Spread`s; `rounds` at least are timed.

    Times are of the processor, or with `clock` those on the clock.
    """
    fewest = rounds or ROUNDS[quick]
    found: dict[str, Any] = {"models": {}, "strength": [], "speed": []}
    for case in QUICK if quick else FULL:
        if only not in case.name:  # before it is trained
            continue
        subject = case.make(quick).right(case.images)
        found["models"][subject.name] = subject.described()
        for norm in case.norms:
            eps = halving_eps(subject, norm, case.lengths[0])
            found["strength"] += compared(subject, norm, eps, case)
            found["speed"] += clocked(subject, norm, eps, case, fewest, SECONDS[quick], clock)
    found["settings"] = {
        "step_size": f"{CROSSING} * eps / steps",
        "restarts": 1,
        "eps": "where about half of the images fall to the plain loop at the shorter length",
        "time": ON_THE_CLOCK if clock else OF_THE_PROCESSOR,
        "fewest_rounds": fewest,
        "seconds_of_rounds": SECONDS[quick],
    }
    return found


def halving_eps(subject: Subject, norm: str, steps: int) -> float:
    """The radius at which about half of the images fall, by bisection of its logarithm."""
    low, high = LOWEST[norm], HIGHEST[norm]
    for _ in range(HALVINGS):
        eps = (low * high) ** 0.5
        seeded(0)
        craft = plain(Setting(norm, eps, steps, CROSSING * eps / steps, True))
        fell = fallen(subject, craft(subject.model, subject.x, subject.y))
        low, high = (low, eps) if float(fell.float().mean()) > 0.5 else (eps, high)
    return float(f"{(low * high) ** 0.5:.3g}")


def fallen(subject: Subject, x_adv: Tensor) -> Tensor:
    """Judged here, alike for all: the prediction at what is returned."""
    with torch.no_grad():
        return subject.model(x_adv).argmax(dim=1) != subject.y


def compared(subject: Subject, norm: str, eps: float, case: Case) -> list[dict[str, Any]]:
    """Success of each contender, at the image and at random starts: one row each."""
    steps, table = case.lengths[0], list[dict[str, Any]]()
    for random_start in (False, True):
        setting = Setting(norm, eps, steps, CROSSING * eps / steps, random_start)
        seeds = range(case.seeds if random_start else 1)
        table += compared_rows(subject, setting, in_strength(setting), seeds)
    return table


def compared_rows(
    subject: Subject, setting: Setting, crafts: Mapping[str, Craft], seeds: range
) -> list[dict[str, Any]]:
    """Success of `crafts`, one of which is "notbugs", on the same images and seeds."""
    found = {name: _strength(subject, craft, setting, seeds) for name, craft in crafts.items()}
    mine, table = found["notbugs"][0], list[dict[str, Any]]()
    for name, (fell, violation) in found.items():
        rates = (100 * fell.double().mean(dim=1)).tolist()
        table.append(
            {
                "model": subject.name,
                **vars(setting),
                "contender": name,
                "images": len(subject.y),
                "success": Spread.mean(rates),
                "success_of_seeds": rates,
                "only_it": int((fell & ~mine).sum()) / len(seeds),
                "only_notbugs": int((mine & ~fell).sum()) / len(seeds),
                "violation": violation,
            }
        )
    return table


def _strength(
    subject: Subject, craft: Craft, setting: Setting, seeds: Iterable[int]
) -> tuple[Tensor, float]:
    """(which rows fell [seeds, n], the largest step outside the threat)."""
    threat, fell, violation = BallInBox(NORMS[setting.norm], setting.eps), [], 0.0
    for seed in seeds:
        seeded(seed)
        x_adv = craft(subject.model, subject.x, subject.y).detach()
        fell.append(fallen(subject, x_adv))
        violation = max(violation, float(threat.violation(x_adv, subject.x).max()))
    return torch.stack(fell), violation


def clocked(
    subject: Subject, norm: str, eps: float, case: Case, fewest: int, seconds: float, clock: bool
) -> list[dict[str, Any]]:
    """Passes, time and memory of each contender, with a random start: one row each."""
    # One step size for all lengths, so that the slope between them is the cost of a step: that of
    # the shorter, at which half of the images fall.
    size = CROSSING * eps / case.lengths[0]
    made = {n: in_time(Setting(norm, eps, n, size, True)) for n in case.lengths}
    crafts = {name: {n: made[n][name] for n in case.lengths} for name in made[case.lengths[0]]}
    model, x, y = subject.model, subject.x, subject.y
    took = times(crafts, model, x, y, fewest=fewest, budget=seconds, clock=clock)
    length = case.lengths[0]
    table: list[dict[str, Any]] = []
    for name, mine in took.items():
        craft = crafts[name][length]
        with Peak() as memory:
            counted = passes(craft, model, x, y)
        table.append(
            {
                "model": subject.name,
                "norm": norm,
                "eps": eps,
                "step_size": size,
                "contender": name,
                "images": len(x),
                "steps": list(case.lengths),
                "rounds": len(mine[length].seconds),
                "stand_in": copy_to_attack(model, x, length) is not None,
                "forwards_per_image": counted.forwards,
                "backwards_per_image": counted.backwards,
                "microseconds_per_image_gradient": Spread.quartiles(
                    [1e6 * s / (len(x) * counted.backwards) for s in mine[length].seconds]
                ),
                "peak_mib": memory.mib,
                **_ratios(mine, took, length),
                "seconds": {str(n): mine[n] for n in case.lengths},
            }
        )
    return table


def _ratios(mine: dict[int, Took], took: dict[str, dict[int, Took]], length: int) -> dict[str, Any]:
    """A contender's time as a multiple of the plain loop's, and of each of ours."""
    base = took[PLAIN]
    return {
        "to_plain": ratios(mine[length].seconds, base[length].seconds),
        "to_plain_wall": ratios(mine[length].wall, base[length].wall),
        "step_to_plain": ratios(slopes(mine), slopes(base)) if len(mine) > 1 else None,
        "to_ours": {
            name: ratios(mine[length].seconds, took[name][length].seconds) for name in OURS
        },
    }
