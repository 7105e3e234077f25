"""A targeted attack at every target: its best, average and worst case."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import check_labels
from notbugs.core.types import Images, Keys, Labels, Mask, Rows
from notbugs.models import Classifier, Fast, prepared

TOGETHER = 128
"""Rows and targets that are attacked at once, where there are fewer rows."""


@dataclass(frozen=True)
class EveryTarget:
    """The distance at which a targeted attack reaches each class, for each row.

    - `distance` [n, k]: infinite if the class was not reached, and at `y`
    - `success` [n, k]: whether the class was reached; False at `y`
    - `best`, `average`, `worst` [n]: least, mean and largest distance over the targets of a
      row. The mean is over the targets reached; the worst is infinite unless all were.
    - `x_best` [n, c, h, w]: the adversarial image of the best case
    - `forwards`, `backwards`: passes summed over rows and targets
    """

    distance: Float[Tensor, "n k"]
    success: Bool[Tensor, "n k"]
    best: Rows
    average: Rows
    worst: Rows
    x_best: Images
    forwards: int
    backwards: int

    @property
    def attack_success_rate(self) -> tuple[float, float, float]:
        """Percent, 0 to 100: rows with any target reached; targets reached; rows with all."""
        reached = self.success.sum(dim=1)
        targets = max(self.success.shape[1] - 1, 1)
        return (
            percent(reached > 0),
            100 * float((reached / targets).mean()),
            percent(reached == targets),
        )


@prepared("x")
def best_average_worst(
    attack: AbstractAttack,
    model: Classifier,
    x: Images,
    y: Labels,
    *,
    seed: int = 0,
    keys: Keys | None = None,
    fast: Fast = "auto",
) -> EveryTarget:
    """The distances at which `attack` reaches each wrong class, and their extremes, per row.

    - `attack`: a minimum-norm attack that supports targets, e.g. `cw_l2()`; for one of a
      fixed budget use the success rates, not the distances
    - `model`; `x` [n, c, h, w] in [0, 1]; `y` [n]: the true classes, never a target
    - `seed` or `keys` [n]: randomness, as for a call of the attack; each target has its own
    - `fast`: the copy of the model to attack, as for a call of the attack

    The cost is that of the attack on k - 1 times as many images.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section III-D: best, average and
    worst case.
    **Differs from the paper**: the average is over all targets, not over one drawn at
    random, whose expectation it is.

    **Raises** ValueError for images or labels out of range, and what the attack raises.

    >>> from notbugs.attacks import ddn
    >>> from notbugs.models import build
    >>> model, y = build("linear", shape=(1, 2, 2), classes=3, seed=0), torch.tensor([0, 1])
    >>> best_average_worst(ddn(steps=5), model, torch.rand(2, 1, 2, 2), y).distance.shape
    torch.Size([2, 3])
    """
    check_labels(y, rows=len(x), classes=model.classes)
    y, n, k = y.long(), len(x), model.classes
    keys = random.row_keys(n, seed, "attack") if keys is None else keys
    distance = torch.full((n, k), float("inf"), device=x.device)
    success = torch.zeros_like(distance, dtype=torch.bool)
    best, x_best = distance[:, 0].clone(), x.detach().clone()
    each = torch.arange(n, device=x.device).repeat(k - 1)
    targets = (y.repeat(k - 1) + 1 + torch.arange(n * (k - 1), device=x.device) // max(n, 1)) % k
    own = torch.cat([random.fold(keys, "target", shift) for shift in range(1, k)])
    forwards = backwards = 0
    for part in torch.arange(len(each), device=x.device).split(max(n, TOGETHER)):
        row, target = each[part], targets[part]
        result = attack(model, x[row], y[row], targets=target, keys=own[part.cpu()], fast=fast)
        reached = torch.where(result.success, result.distance.float(), float("inf"))
        distance[row, target], success[row, target] = reached, result.success
        for i in (reached < best[row]).nonzero()[:, 0].tolist():
            if reached[i] < best[row[i]]:  # of two targets of a row in one part the nearer one
                x_best[row[i]], best[row[i]] = result.x_adv[i], reached[i]
        forwards, backwards = forwards + result.forwards, backwards + result.backwards
    average, worst = _over_targets(distance, success)
    return EveryTarget(distance, success, best, average, worst, x_best, forwards, backwards)


def _over_targets(distance: Tensor, success: Tensor) -> tuple[Rows, Rows]:
    """(mean over the targets reached, largest if all were, else infinity)."""
    count = success.sum(dim=1)
    total = torch.where(success, distance, 0).sum(dim=1)
    mean = torch.where(count > 0, total / count.clamp(min=1), float("inf"))
    largest = torch.where(success, distance, 0).amax(dim=1)
    all_reached: Mask = count == success.shape[1] - 1
    return mean, torch.where(all_reached, largest, float("inf"))
