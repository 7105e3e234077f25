"""ALMA, an augmented Lagrangian: the smallest perturbation with a loss below zero."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Rows, Theta
from notbugs.engine.norms import L2
from notbugs.engine.rules import AbstractStepRule, StepInfo, required

CHECK_EVERY, PROGRESS, GROWTH = 10, 0.95, 1.2
"""Every CHECK_EVERY steps the penalty grows by GROWTH if more than PROGRESS of the loss remains."""

LEAST, MOST = 1e-6, 1e12
"""Bounds of the multiplier."""

LAST_STEP = 0.01
"""Last step size as a share of the first."""

SCALE = 0.5
"""The unit of the loss, as a share of its first gradient's norm."""

DAMPING = 1e-8


class ALMAState(NamedTuple):
    """Each row's multiplier, penalty, unit of the loss and step size, and data to update them.

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
    """The derivative of the penalty function by the loss y: the weight of the loss's gradient.

    With m the multiplier and p the penalty, the function is m y + m p y^2 + p^2 y^3 / 6 for
    y >= 0 and m y / (1 - p y) below; at y = 0 its derivative is m.
    """
    product = penalty * value
    above = multiplier * (1 + 2 * product) + product.square() / 2
    below = multiplier / (1 - product.clamp(max=0)).square()
    return torch.where(value >= 0, above, below)


@final
@dataclass(frozen=True)
class ALMA(AbstractStepRule[ALMAState]):
    """Scaled gradient steps on distance + penalty function of the loss, with a multiplier per row.

    The objective's value y is the constraint: above 0 while a row is not broken. Every step
    lowers ||x - center||_2^2 + P(y / unit), where the unit is half the norm of y's first
    gradient: so the multiplier does not depend on the scale of the logits. Each entry is
    scaled by the root of its mean squared gradient (as in RMSprop). `first` is the length of
    the first step in L2 pixel units; `memory` the decay rate of the running means of
    multipliers and of squares. The step size is constant until a row is first broken and
    decays exponentially afterwards; the first step does not update the multiplier.

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
        unit = (SCALE * L2().size(required(info.grad))).clamp(min=DAMPING)
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
        state = self._updated(info.value / state.unit, info, state)
        weighted = required(info.grad) * rows.expand(state.multiplier / state.unit, theta)
        grad = weighted.add_(theta - info.center, alpha=2)
        square = torch.lerp(grad.square(), state.square, self.memory)
        size = state.step_size * LAST_STEP ** _since(state.broken_at, info)
        scaled = grad / (square.sqrt() + DAMPING)
        return theta - rows.expand(size, theta) * scaled, state._replace(square=square)

    def _updated(self, value: Rows, info: StepInfo, state: ALMAState) -> ALMAState:
        """The state with an updated multiplier and, every `CHECK_EVERY` steps, penalty."""
        broken_at = torch.where(info.success, float(info.step), float("inf"))
        state = state._replace(broken_at=state.broken_at.minimum(broken_at))
        if info.step == 0:
            return state
        slope = pressure(value, state.penalty, state.multiplier)
        multiplier = torch.lerp(slope, state.multiplier, self.memory).clamp_(LEAST, MOST)
        state = state._replace(multiplier=multiplier)
        if info.step % CHECK_EVERY:
            return state
        stuck = state.broken_at.isinf() & (value > PROGRESS * state.checked)
        penalty = torch.where(stuck, GROWTH * state.penalty, state.penalty)
        return state._replace(penalty=penalty, checked=value)

    def _first_size(self, theta: Theta, info: StepInfo, unit: Rows) -> Rows:
        """The step size at which the gradient step, clamped to the box, has length `first`.

        By bisection on its logarithm. If no step in the box is that long, the largest step
        size searched.
        """
        grad = required(info.grad) / rows.expand(unit, theta)
        low, high = torch.full_like(unit, -20.0), torch.full_like(unit, 20.0)
        for _ in range(24):
            middle = (low + high) / 2
            moved = info.project(theta - rows.expand(middle.exp2(), theta) * grad)
            short = L2().size(moved - info.center) < self.first
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return high.exp2()


def _since(broken_at: Rows, info: StepInfo) -> Rows:
    """The share of the steps after the first success that are done; 0 before it."""
    remaining = (info.max_steps - broken_at).clamp(min=1)
    return ((info.step - broken_at) / remaining).clamp(min=0)
