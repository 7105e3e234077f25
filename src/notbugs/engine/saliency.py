"""JSMA's step: the pair of features of the largest saliency."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Theta
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, required


@dataclass(frozen=True)
class AbstractPair(AbstractStepRule[None]):
    """Changes by `change` the two features p, q that maximise the saliency.

        -(alpha_p + alpha_q) * (beta_p + beta_q)   where alpha_p + alpha_q > 0 > beta_p + beta_q

    alpha is the gradient of the target's output (minus the objective's value), beta that
    of the others' sum; both change sign for a negative `change`. Features already at the
    end of [0, 1] are left out. Without such a pair the row does not move.

    **Source**: Papernot et al. 2015 (arXiv 1511.07528), Algorithms 2 and 3, section IV-B.
    """

    change: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < abs(self.change) <= 1):
            raise bad_value("change", "lie in [-1, 1] and not be 0", self.change)

    @abstractmethod
    def others(self, alpha: Tensor, info: StepInfo) -> Tensor:
        """beta, [n, ...]."""

    def init(self, theta: Theta, info: StepInfo) -> None:
        return None

    def step(self, theta: Theta, info: StepInfo, state: None) -> tuple[Tensor, None]:
        sign = 1 if self.change > 0 else -1
        alpha = -required(info.grad)
        gain = rows.flatten(sign * alpha)
        loss = rows.flatten(-sign * self.others(alpha, info))
        can_move = rows.flatten(theta) < 1 if sign > 0 else rows.flatten(theta) > 0
        pair, exists = best_pair(gain, loss, can_move)
        move = exists[:, None].to(theta.dtype).expand_as(pair) * self.change
        flat = rows.flatten(theta).scatter_add(1, pair, move)
        return flat.reshape(theta.shape).clamp(0, 1), None


@final
@dataclass(frozen=True)
class LogitPair(AbstractPair):
    """beta is the gradient of the objective's only output: the sum of the other logits."""

    needs: ClassVar[Needs] = Needs(jacobian=True)

    def others(self, alpha: Tensor, info: StepInfo) -> Tensor:
        return required(info.jacobian)[:, 0]


@final
@dataclass(frozen=True)
class ProbabilityPair(AbstractPair):
    """beta is minus alpha, because probabilities sum to one: no second gradient is needed."""

    def others(self, alpha: Tensor, info: StepInfo) -> Tensor:
        return -alpha


def best_pair(gain: Images, loss: Images, can_move: Tensor) -> tuple[Tensor, Tensor]:
    """(features [n, 2] of the largest (gain_p + gain_q) * (loss_p + loss_q), if any [n]).

    Both sums must be positive and both features in `can_move`. Exact without trying all pairs:
    a feature dominated by two others in gain and in loss can be replaced by one of them, so
    only the undominated ones are paired.
    """
    lowest = torch.full_like(gain, float("-inf"))
    gain, loss = torch.where(can_move, gain, lowest), torch.where(can_move, loss, lowest)
    by_gain, order = gain.sort(dim=1, descending=True, stable=True)
    loss = loss.gather(1, order)
    undominated = loss > _second_before(loss)
    count = max(2, int(undominated.sum(dim=1).amax())) if len(gain) else 2
    # The undominated ones first; any that follow are worse or cannot move.
    chosen = undominated.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    a, b = by_gain.gather(1, chosen), loss.gather(1, chosen)
    gains, losses = a[:, :, None] + a[:, None], b[:, :, None] + b[:, None]
    valid = (gains > 0) & (losses > 0) & ~torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    score = torch.where(valid, gains * losses, float("-inf")).flatten(1)
    value, index = score.max(dim=1)
    k = a.shape[1]
    pair = torch.stack([index // k, index % k], dim=1)
    return order.gather(1, chosen.gather(1, pair)), value > float("-inf")


def _second_before(x: Tensor) -> Tensor:
    """The second largest of all earlier entries of each row; -inf for the first two."""
    none = torch.full_like(x[:, :1], float("-inf"))
    largest = torch.cat([none, x.cummax(dim=1).values[:, :-1]], dim=1)
    # Of an entry and the largest before it, the smaller is a candidate for second place.
    second = torch.minimum(x, largest).cummax(dim=1).values
    return torch.cat([none, second[:, :-1]], dim=1)
