"""Auto-PGD: a step rule that adapts its step size to its progress."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import check_positive
from notbugs.core.types import Mask, Rows, Theta
from notbugs.engine.norms import AbstractNorm, check_norm
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, required

MOMENTUM = 0.75
FIRST, SHRINK, LEAST = 0.22, 0.03, 0.06
"""The first interval between checkpoints, its decrease and its minimum, as shares of the budget."""


def checkpoints(steps: int) -> frozenset[int]:
    """The steps at which the step size may halve (Croce & Hein 2020, section 3.2)."""
    length, shrink, least = (max(int(share * steps), 1) for share in (FIRST, SHRINK, LEAST))
    marks: list[int] = []
    mark = length
    while mark <= steps:
        marks.append(mark)
        length = max(length - shrink, least)
        mark += length
    return frozenset(marks)


class APGDState(NamedTuple):
    """Per row: the previous and the best point, the step size, and counts since a checkpoint."""

    previous: Theta
    best: Theta
    best_grad: Theta
    best_value: Rows
    value: Rows
    step_size: Rows
    improved: Tensor
    mark_value: Rows
    reduced: Mask


@final
@dataclass(frozen=True)
class APGD(AbstractStepRule[APGDState]):
    """Steepest steps with momentum; without progress, half the size from the best point.

    A row's step size starts at 2 `eps`. At a checkpoint it halves, and the row returns to
    its best point, if the objective decreased in at most `rho` of the steps since the last
    checkpoint, or if neither the step size nor the best value has changed.

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), Algorithm 1, for Linf and L2.
    """

    norm: AbstractNorm
    eps: float
    rho: float = 0.75

    needs: ClassVar[Needs] = Needs(success=False)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_positive(self.eps, "eps")

    def init(self, theta: Theta, info: StepInfo) -> APGDState:
        return APGDState(
            previous=theta,
            best=theta,
            best_grad=required(info.grad),
            best_value=info.value,
            value=info.value,
            step_size=torch.full_like(info.value, 2 * self.eps),
            improved=torch.zeros_like(info.value, dtype=torch.int64),
            mark_value=info.value,
            reduced=torch.ones_like(info.value, dtype=torch.bool),
        )

    def step(self, theta: Theta, info: StepInfo, state: APGDState) -> tuple[Tensor, APGDState]:
        grad = required(info.grad)
        if info.step:
            state = self._with_best(theta, grad, info, state)
            theta, grad, state = self._at_checkpoint(theta, grad, info, state)
        size = rows.expand(state.step_size, theta)
        candidate = info.project(theta - size * self.norm.steepest(grad))
        new = candidate
        if info.step:
            new = theta + MOMENTUM * (candidate - theta) + (1 - MOMENTUM) * (theta - state.previous)
        return new, state._replace(previous=theta)

    def _with_best(self, theta: Theta, grad: Tensor, info: StepInfo, state: APGDState) -> APGDState:
        better = info.value < state.best_value
        return state._replace(
            best=rows.where(better, theta, state.best),
            best_grad=rows.where(better, grad, state.best_grad),
            best_value=torch.where(better, info.value, state.best_value),
            improved=state.improved + (info.value < state.value),
            value=info.value,
        )

    def _at_checkpoint(
        self, theta: Theta, grad: Tensor, info: StepInfo, state: APGDState
    ) -> tuple[Tensor, Tensor, APGDState]:
        steps = checkpoints(info.max_steps)
        if info.step not in steps:
            return theta, grad, state
        length = info.step - max((step for step in steps if step < info.step), default=0)
        stuck = state.improved <= self.rho * length
        stuck |= ~state.reduced & (state.best_value >= state.mark_value)
        theta = rows.where(stuck, state.best, theta)
        grad = rows.where(stuck, state.best_grad, grad)
        return (
            theta,
            grad,
            state._replace(
                value=torch.where(stuck, state.best_value, state.value),
                step_size=torch.where(stuck, state.step_size / 2, state.step_size),
                improved=torch.zeros_like(state.improved),
                mark_value=state.best_value,
                reduced=stuck,
            ),
        )
