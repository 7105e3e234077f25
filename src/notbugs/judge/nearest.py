"""How far the nearest successes of images are, and robust accuracy at every radius from it."""

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
    """The distance of each image's nearest success, as a minimum-norm attack found it.

    - `right` [n]: classified correctly when clean
    - `distance` [n]: pixel units of [0, 1]; 0 where the image is wrong from the start,
      infinite where it was never broken. As for `AttackResult.robust`, an image whose
      label ties or whose logits are not finite at the distance does not stand there
    """

    attack: str
    norm: str
    right: Mask
    distance: Rows

    @classmethod
    def of(cls, attack: AbstractAttack, found: Sequence[AttackResult]) -> "Distances":
        """The distances in the results of a minimum-norm attack, batch after batch.

        **Raises** ValueError for an attack of a fixed budget: it looks for no nearest success.
        """
        _check_nearest(attack)
        wrong = torch.cat([part.already_wrong.cpu() for part in found])
        distance = torch.cat([_placed(part) for part in found])
        return cls(attack.name, attack.size.name, ~wrong, distance)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.right)

    @property
    def unbroken(self) -> int:
        """Images that were right and were never broken."""
        return int((self.right & self.distance.isinf()).sum())

    @property
    def ordered(self) -> Rows:
        """The distances of the images that were right, rising, the infinite ones at the end."""
        return self.distance[self.right].sort().values

    @property
    def median(self) -> float:
        """`quantile(0.5)`."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The smallest radius that breaks at least this share of the images that were right.

        `share` lies in (0, 1]. Infinite where fewer were broken at any radius; NaN where no
        image was right.
        """
        if not 0 < share <= 1:
            raise bad_value("share", "lie in (0, 1]", share)
        ordered = self.ordered
        if not len(ordered):
            return float("nan")
        # 1e-9: 0.07 * 100 is 7.000000000000001, which is not an eighth image.
        return float(ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)])

    def robust_accuracy(self, eps: float) -> float:
        """Percent of images that are right and have no success within `eps`."""
        if not eps >= 0:
            raise bad_value("eps", "be at least 0", eps)
        return 100 * int((self.right & (self.distance > eps)).sum()) / self.n

    def curve(self) -> AccuracyCurve:
        """Robust accuracy at every radius: a step down at the distance of each image."""
        radii = self.distance[self.right & self.distance.isfinite() & (self.distance > 0)]
        eps = [0.0, *radii.unique().tolist()]
        far = self.ordered
        # Those with a distance of exactly eps are broken within it.
        unbroken = len(far) - torch.searchsorted(far, far.new_tensor(eps), right=True)
        counts = tuple(int(count) for count in unbroken)
        return AccuracyCurve(self.attack, self.norm, self.n, tuple(eps), counts, exact=True)

    def as_json(self) -> Mapping[str, object]:
        """Counts, quantiles and the rising distances; null stands for infinite (unbroken)."""
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
    """The distance of the nearest success of every image; only those that are right are attacked.

    - `attack`: a minimum-norm method, e.g. `fmn(L2())`
    - `seed`: row i has its own random stream, whatever the batch size
    - `fast`: as for a call of the attack; `progress`: called with the fraction done, 0..1

    What an attack finds bounds the true distance from above, so the curve bounds the true
    robust accuracy from above, as any attack's does.

    **Raises** ValueError for an attack of a fixed budget, and data that does not fit the model.
    """
    _check_nearest(attack)
    right = correct(model, data, data.labels, batch_size=batch_size, samples=attack.votes)
    distance = torch.zeros(len(data), dtype=torch.float64)
    left, keys = right.nonzero()[:, 0], random.row_keys(len(data), seed, "attack")
    for index, share in batches(left, batch_size):
        found = attacked(attack, model, data, index, keys, fast=fast)
        distance[index] = _placed(found)
        progress(share)
    progress(1.0)
    return Distances(attack.name, attack.size.name, right, distance)


def _placed(found: AttackResult) -> Rows:
    distance = found.distance.double().where(~found.robust, float("inf"))
    return distance.where(~found.already_wrong, 0.0).cpu()


def _check_nearest(attack: AbstractAttack) -> None:
    if not attack.is_minimum_norm:
        raise bad_value(
            "attack",
            "be a minimum-norm method",
            f"{attack.name} with {attack.threat or 'a bound of its own'}",
            "For an attack of a fixed budget use `robust_curve`.",
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
