"""Smallest adversarial distances, and the robust accuracy at every radius from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from notbugs.attacks import AbstractAttack, AttackResult
from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.types import Mask, Rows
from notbugs.data import ImageData
from notbugs.judge.accuracy import correct
from notbugs.judge.curves import AccuracyCurve, attacked, batches
from notbugs.models import Classifier, Fast, prepared

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distances:
    """The distance of each image's nearest adversarial example, by a minimum-norm attack.

    - `right` [n]: classified correctly when clean
    - `distance` [n]: pixel units of [0, 1]; 0 where the clean image is misclassified, infinite
      where it was not broken. As in `AttackResult.robust`, a point where the label ties or the
      logits are not finite counts as broken
    """

    attack: str
    norm: str
    right: Mask
    distance: Rows

    @classmethod
    def of(cls, attack: AbstractAttack, results: Sequence[AttackResult]) -> "Distances":
        """The distances in the results of a minimum-norm attack, batch after batch.

        **Raises** ValueError for an attack of a fixed threat, which minimises no distance.
        """
        _check_nearest(attack)
        wrong = torch.cat([part.already_wrong.cpu() for part in results])
        distance = torch.cat([_distance_of(part) for part in results])
        return cls(attack.name, attack.size.name, ~wrong, distance)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.right)

    @property
    def unbroken(self) -> int:
        """Number of images that were classified correctly and not broken."""
        return int((self.right & self.distance.isinf()).sum())

    @property
    def ordered(self) -> Rows:
        """The distances of the correctly classified images in rising order, infinite ones last."""
        return self.distance[self.right].sort().values

    @property
    def median(self) -> float:
        """`quantile(0.5)`."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The smallest radius within which this share of the correctly classified images is broken.

        `share` lies in (0, 1]. Infinite where fewer were broken; NaN where no image was
        classified correctly.
        """
        if not 0 < share <= 1:
            raise bad_value("share", "lie in (0, 1]", share)
        ordered = self.ordered
        if not len(ordered):
            return float("nan")
        # 1e-9: 0.07 * 100 is 7.000000000000001, which must not round up to 8.
        return float(ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)])

    def robust_accuracy(self, eps: float) -> float:
        """Percent of images classified correctly and not broken within `eps`."""
        if not eps >= 0:
            raise bad_value("eps", "be at least 0", eps)
        return 100 * int((self.right & (self.distance > eps)).sum()) / self.n

    def curve(self) -> AccuracyCurve:
        """Robust accuracy at every radius: a step down at the distance of each image."""
        radii = self.distance[self.right & self.distance.isfinite() & (self.distance > 0)]
        eps = [0.0, *radii.unique().tolist()]
        ordered = self.ordered
        # Those with a distance of exactly eps are broken within it.
        unbroken = len(ordered) - torch.searchsorted(ordered, ordered.new_tensor(eps), right=True)
        counts = tuple(int(count) for count in unbroken)
        return AccuracyCurve(self.attack, self.norm, self.n, tuple(eps), counts, exact=True)

    def as_json(self) -> Mapping[str, object]:
        """Counts, quantiles and the rising distances; null means infinite (unbroken)."""
        return {
            "attack": self.attack,
            "norm": self.norm,
            "n": self.n,
            "right": int(self.right.sum()),
            "unbroken": self.unbroken,
            "median": _finite(self.median),
            "quantiles": {f"{share:g}": _finite(self.quantile(share)) for share in QUANTILES},
            "distances": [_finite(distance) for distance in self.ordered.tolist()],
        }


@prepared()
def distances(
    attack: AbstractAttack,
    model: Classifier,
    data: ImageData,
    *,
    seed: int = 0,
    batch_size: int = 256,
    fast: Fast = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
) -> Distances:
    """The distance of every image's nearest adversarial example (0 if misclassified when clean).

    - `attack`: a minimum-norm method, e.g. `fmn(L2())`
    - `seed`: row i has its own random stream, whatever the batch size
    - `fast`: as for a call of the attack; `progress`: called with the fraction done, 0..1

    The distance found is an upper bound of the true one, and so is the robust accuracy from it.

    **Raises** ValueError for an attack of a fixed threat, and data that does not fit the model.
    """
    _check_nearest(attack)
    right = correct(model, data, data.labels, batch_size=batch_size, samples=attack.votes)
    distance = torch.zeros(len(data), dtype=torch.float64)
    rows, keys = right.nonzero()[:, 0], random.row_keys(len(data), seed, "attack")
    for index, share in batches(rows, batch_size):
        result = attacked(attack, model, data, index, keys, fast=fast)
        distance[index] = _distance_of(result)
        progress(share)
    progress(1.0)
    return Distances(attack.name, attack.size.name, right, distance)


def _distance_of(result: AttackResult) -> Rows:
    distance = result.distance.double().where(~result.robust, float("inf"))
    return distance.where(~result.already_wrong, 0.0).cpu()


def _check_nearest(attack: AbstractAttack) -> None:
    if not attack.is_minimum_norm:
        raise bad_value(
            "attack",
            "be a minimum-norm method",
            f"{attack.name} with {attack.threat or 'a bound of its own'}",
            "For an attack of a fixed threat use `robust_curve`.",
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
