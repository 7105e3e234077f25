"""Augmented Lagrangian steps: the shortest change that brings the attack's loss below zero."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Rows, Theta
from notbugs.engine.norms import L2
from notbugs.engine.rules import AbstractStepRule, StepInfo, given

CHECK_EVERY, PROGRESS, GROWTH = 10, 0.95, 1.2
"""The penalty grows by GROWTH when CHECK_EVERY steps left more than PROGRESS of the loss."""

LEAST, MOST = 1e-6, 1e12
"""Bounds of the multiplier."""

LAST_STEP = 0.01
"""The last step's length as a share of the first one's."""

SCALE = 0.5
"""The loss is measured in this share of its first gradient's length."""

DAMPING = 1e-8


class ALMAState(NamedTuple):
    """Each row's multiplier, penalty, unit of the loss and step, and what they are updated from.

    `broken_at` is the step of the first success, infinite before it.
    """

    multiplier: Rows
    penalty: Rows
    unit: Rows
    step_size: Rows
    checked: Rows
    broken_at: Rows
    square: Theta


def pressure(value: Rows, penalty: Rows, multiplier: Rows) -> Rows:
    """The derivative of the penalty function by the loss y: how hard the loss is pushed down.

    With m the multiplier and p the penalty, the function is m y + m p y^2 + p^2 y^3 / 6 for
    y >= 0 and m y / (1 - p y) below; at y = 0 its derivative is m.
    """
    push = penalty * value
    above = multiplier * (1 + 2 * push) + push.square() / 2
    below = multiplier / (1 - push.clamp(max=0)).square()
    return torch.where(value >= 0, above, below)


@final
@dataclass(frozen=True)
class ALMA(AbstractStepRule[ALMAState]):
    """Scaled gradient steps on distance + penalty function of the loss, a multiplier a row.

    The objective's value y is the constraint: above 0 where a row stands. Every step lowers
    ||x - center||_2^2 + P(y / unit), where the unit is half the length of y's first
    gradient: so the multiplier is of the order of the distance, whatever the scale of the
    logits. Each entry is scaled by the root of its mean squared gradient. `first` is the
    length of the first step in L2 pixel units; `memory` the weight of the past in the means
    of multipliers and of squares. Steps keep their length until a row is first broken, and
    fall exponentially from there; the first step takes the multiplier as it is.

    **Source**: Rony et al. 2020 (arXiv 2011.11857), Algorithm 1, with penalty function P2.
    """

    first: float
    memory: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self.first, "first")
        if not (0 <= self.memory < 1):
            raise bad_value("memory", "lie in [0, 1)", self.memory)

    def init(self, theta: Theta, info: StepInfo) -> ALMAState:
        one = torch.ones_like(info.value)
        unit = (SCALE * L2().size(given(info.grad))).clamp(min=DAMPING)
        return ALMAState(
            multiplier=one,
            penalty=one,
            unit=unit,
            step_size=self._first_size(theta, info, unit),
            checked=info.value / unit,
            broken_at=torch.full_like(unit, float("inf")),
            square=torch.ones_like(theta),
        )

    def step(self, theta: Theta, info: StepInfo, state: ALMAState) -> tuple[Tensor, ALMAState]:
        state = self._weighed(info.value / state.unit, info, state)
        push = given(info.grad) * rows.expand(state.multiplier / state.unit, theta)
        grad = push.add_(theta - info.center, alpha=2)
        square = torch.lerp(grad.square(), state.square, self.memory)
        size = state.step_size * LAST_STEP ** _since(state.broken_at, info)
        scaled = grad / (square.sqrt() + DAMPING)
        return theta - rows.expand(size, theta) * scaled, state._replace(square=square)

    def _weighed(self, value: Rows, info: StepInfo, state: ALMAState) -> ALMAState:
        """The state with the multiplier, and now and then the penalty, brought up to date."""
        first = torch.where(info.success, float(info.step), float("inf"))
        state = state._replace(broken_at=state.broken_at.minimum(first))
        if info.step == 0:
            return state
        now = pressure(value, state.penalty, state.multiplier)
        multiplier = torch.lerp(now, state.multiplier, self.memory).clamp_(LEAST, MOST)
        state = state._replace(multiplier=multiplier)
        if info.step % CHECK_EVERY:
            return state
        stuck = state.broken_at.isinf() & (value > PROGRESS * state.checked)
        penalty = torch.where(stuck, GROWTH * state.penalty, state.penalty)
        return state._replace(penalty=penalty, checked=value)

    def _first_size(self, theta: Theta, info: StepInfo, unit: Rows) -> Rows:
        """The step size whose step along the gradient, kept in the box, is `first` long.

        By bisection on its logarithm; where the box leaves less than `first`, the most
        that is searched.
        """
        grad = given(info.grad) / rows.expand(unit, theta)
        low, high = torch.full_like(unit, -20.0), torch.full_like(unit, 20.0)
        for _ in range(24):
            middle = (low + high) / 2
            moved = info.project(theta - rows.expand(middle.exp2(), theta) * grad)
            short = L2().size(moved - info.center) < self.first
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return high.exp2()


def _since(broken_at: Rows, info: StepInfo) -> Rows:
    """The share of the steps after the first success that are done, 0 before it."""
    left = (info.max_steps - broken_at).clamp(min=1)
    return ((info.step - broken_at) / left).clamp(min=0)
