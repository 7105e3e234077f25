"""Robust accuracy against the radius."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

    - `attack`, `norm`: names; `n`: all images, misclassified ones included
    - `eps`: rising radii in pixel units of [0, 1]; the first is 0, the clean images
    - `robust`: for each radius, how many images are classified correctly and not broken within it
    - `exact`: the curve is a step function, constant from each radius to the next; otherwise
      it is known at these radii only
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

    def up_to(self, radius: float) -> "AccuracyCurve":
        """The part within a radius; an exact curve holds its last value up to it."""
        kept = [i for i, eps in enumerate(self.eps) if eps <= radius]
        eps, robust = [self.eps[i] for i in kept], [self.robust[i] for i in kept]
        if self.exact and eps[-1] < radius:
            eps, robust = [*eps, radius], [*robust, robust[-1]]
        return replace(self, eps=tuple(eps), robust=tuple(robust))

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
    """Robust accuracy at each radius under an attack with a fixed threat.

    The radii are attacked in rising order. An image broken at one radius counts as broken at
    all larger ones, which contain its adversarial example too, and is not attacked again. So the
    curve never rises, and at each radius is at most the accuracy under that attack alone.

    - `make`: radius -> attack, e.g. `lambda eps: pgd(L2(), eps)`
    - `radii`: at least one, each above 0, rising; pixel units of [0, 1]
    - `seed`: row i has its own random stream, the same at every radius
    - `fast`: as for a call of the attack; `progress`: called with the fraction done, 0..1

    **Raises** ValueError for radii that do not rise, attacks of another radius or of different
    norms, and data that does not fit the model.
    """
    attacks = _attacks_at(make, radii)
    votes = max(attack.votes for attack in attacks)
    unbroken = correct(model, data, data.labels, batch_size=batch_size, samples=votes)
    counts = [int(unbroken.sum())]
    keys = random.row_keys(len(data), seed, "attack")
    for i, attack in enumerate(attacks):
        for index, share in batches(unbroken.nonzero()[:, 0], batch_size):
            result = attacked(attack, model, data, index, keys, fast=fast)
            unbroken[index] = result.robust.cpu()
            progress((i + share) / len(attacks))
        counts.append(int(unbroken.sum()))
    progress(1.0)
    names = list(dict.fromkeys(attack.name for attack in attacks))
    name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    eps = (0.0, *(float(r) for r in radii))
    return AccuracyCurve(name, attacks[0].size.name, len(data), eps, tuple(counts), exact=False)


def batches(rows: Int[Tensor, " m"], size: int) -> Iterator[tuple[Tensor, float]]:
    """The rows in batches of `size`, each with the fraction done after it, 0..1."""
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
    """Runs the attack on the rows `index`, on the model's device.

    **Warns** where more than 5 % of them have no gradient and are not broken.
    """
    device = model.device
    x, y = data.pixels(index).to(device), data.labels[index.to(data.labels.device)].to(device)
    result = attack(model, x, y, keys=keys[index].to(device), fast=fast, observe=observe)
    flat = int((result.without_gradient & result.robust).sum())
    if attack.requirements.gradients and flat > max(FEW * len(index), 1):
        warnings.warn(
            f"{attack.name} met no gradient in {flat} of {len(index)} images. That it did "
            "not break them is no evidence of robustness: run `diagnose`.",
            stacklevel=3,
        )
    return result


def _attacks_at(
    make: Callable[[float], AbstractAttack], radii: Sequence[float]
) -> list[AbstractAttack]:
    if not radii:
        raise bad_value("radii", "hold at least one radius", "none")
    for radius in radii:
        check_positive(radius, "radii")
    if any(b <= a for a, b in pairwise(radii)):
        raise bad_value("radii", "rise, each once", list(radii), "Sort them.")
    attacks = [make(radius) for radius in radii]
    for radius, attack in zip(radii, attacks, strict=True):
        _check_threat(attack, radius, attacks[0])
    return attacks


def _check_threat(attack: AbstractAttack, radius: float, first: AbstractAttack) -> None:
    if attack.threat is None or attack.threat.eps != radius or attack.size != first.size:
        raise bad_value(
            "make",
            f"give an attack within {Threat(first.size, radius)}",
            f"{attack.name} with {attack.threat}",
            "For a minimum-norm method, which has no radius, use `distances`.",
        )
