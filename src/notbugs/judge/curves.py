"""Robust accuracy against the radius."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Int
from torch import Tensor

from notbugs.attacks import AbstractAttack, AttackResult
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Keys
from notbugs.data import ImageData
from notbugs.engine import Observer, Threat
from notbugs.judge.accuracy import correct
from notbugs.judge.signs import FEW
from notbugs.judge.verdict import wilson
from notbugs.models import Classifier, Fast, prepared


@dataclass(frozen=True)
class AccuracyCurve:
    """How many images are robust within each radius.

    - `attack`, `norm`: names; `n`: images, those that are wrong from the start included
    - `eps`: rising radii in pixel units of [0, 1]; the first is 0, the clean images
    - `robust`: for each radius, the images that are right and not broken within it
    - `exact`: the curve is the step function that holds its value up to the next radius;
      otherwise it is known at these radii only
    """

    attack: str
    norm: str
    n: int
    eps: tuple[float, ...]
    robust: tuple[int, ...]
    exact: bool

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Robust accuracy at each radius, in percent."""
        return tuple(100 * count / self.n for count in self.robust)

    @property
    def ci95(self) -> tuple[tuple[float, float], ...]:
        """The 95 % Wilson interval over images at each radius, in percent."""
        return tuple(wilson(count, self.n) for count in self.robust)

    def as_json(self) -> Mapping[str, object]:
        """The curve as plain numbers and lists, percent from 0 to 100."""
        return {
            "attack": self.attack,
            "norm": self.norm,
            "n": self.n,
            "exact": self.exact,
            "eps": list(self.eps),
            "robust": list(self.robust),
            "accuracy": list(self.accuracy),
            "ci95": [list(pair) for pair in self.ci95],
        }


@prepared()
def robust_curve(
    make: Callable[[float], AbstractAttack],
    model: Classifier,
    data: ImageData,
    radii: Sequence[float],
    *,
    seed: int = 0,
    batch_size: int = 256,
    fast: Fast = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
) -> AccuracyCurve:
    """Robust accuracy at each of some radii under an attack of a fixed budget.

    A worst case per image over the radii up to each: the radii are taken in rising order,
    an image broken at one counts as broken at all larger ones (what broke it lies in those
    sets as well), and only the images not yet broken are attacked at the next. So the
    curve never rises, and at each radius it is at most what the attack alone would leave.

    - `make`: radius -> attack, e.g. `lambda eps: pgd(L2(), eps)`
    - `radii`: at least one, each above 0, rising; pixel units of [0, 1]
    - `seed`: row i has its own random stream, the same at every radius
    - `fast`: as for a call of the attack; `progress`: called with the fraction done, 0..1

    **Raises** ValueError for radii that do not rise, attacks that have another radius than
    was asked for or different norms, and data that does not fit the model.
    """
    attacks = _made(make, radii)
    votes = max(attack.votes for attack in attacks)
    unbroken = correct(model, data, data.labels, batch_size=batch_size, samples=votes)
    counts = [int(unbroken.sum())]
    keys = random.row_keys(len(data), seed, "attack")
    for i, attack in enumerate(attacks):
        for index, share in batches(unbroken.nonzero()[:, 0], batch_size):
            found = attacked(attack, model, data, index, keys, fast=fast)
            unbroken[index] = found.robust.cpu()
            progress((i + share) / len(attacks))
        counts.append(int(unbroken.sum()))
    progress(1.0)
    names = list(dict.fromkeys(attack.name for attack in attacks))
    name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    eps = (0.0, *(float(r) for r in radii))
    return AccuracyCurve(name, attacks[0].size.name, len(data), eps, tuple(counts), exact=False)


def batches(rows: Int[Tensor, " m"], size: int) -> Iterator[tuple[Tensor, float]]:
    """The rows in parts of a size, each with the share that is done after it."""
    check_count(size, "batch_size")
    done = 0
    for index in rows.split(size) if len(rows) else ():
        done += len(index)
        yield index, done / len(rows)


def attacked(
    attack: AbstractAttack,
    model: Classifier,
    data: ImageData,
    index: Int[Tensor, " m"],
    keys: Keys,
    *,
    fast: Fast,
    observe: Observer | None = None,
) -> AttackResult:
    """The attack on the rows `index`, with the keys of these rows, on the model's device.

    **Warns** where more than 5 % of them have no gradient to follow.
    """
    device = model.device
    x, y = data.pixels(index).to(device), data.labels[index.to(data.labels.device)].to(device)
    at = keys[index].to(device)
    found = attack(model, x, y, keys=at, fast=fast, observe=observe)
    flat = int((found.without_gradient & found.robust).sum())
    if attack.requirements.gradients and flat > max(FEW * len(index), 1):
        warnings.warn(
            f"{attack.name} met no gradient in {flat} of {len(index)} images: that they stand "
            "says nothing of the model's robustness. `diagnose` says more.",
            stacklevel=3,
        )
    return found


def _made(make: Callable[[float], AbstractAttack], radii: Sequence[float]) -> list[AbstractAttack]:
    if not radii:
        raise bad_value("radii", "hold at least one radius", "none")
    for radius in radii:
        check_positive(radius, "radii")
    if any(b <= a for a, b in pairwise(radii)):
        raise bad_value("radii", "rise, each once", list(radii), "Sort them.")
    attacks = [make(radius) for radius in radii]
    for radius, attack in zip(radii, attacks, strict=True):
        _check_made(attack, radius, attacks[0])
    return attacks


def _check_made(attack: AbstractAttack, radius: float, first: AbstractAttack) -> None:
    if attack.threat is None or attack.threat.eps != radius or attack.size != first.size:
        raise bad_value(
            "make",
            f"give an attack within {Threat(first.size, radius)}",
            f"{attack.name} with {attack.threat}",
            "For a minimum-norm method, which has no radius, use `distances`.",
        )
