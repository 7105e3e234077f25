"""Auto-PGD within an L1 ball, with sparse steps."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import check_positive
from notbugs.core.types import Rows, Theta
from notbugs.engine.rules import AbstractStepRule, StepInfo, required

CHECK = 0.04
"""Share of the budget between two checkpoints."""
FIRST_SHARE = 0.2
"""Share of the entries that the first steps change."""
THINNING = 1.5
"""Entries of the best perturbation per entry that a step changes."""
SPARSER = 0.95
"""Below this share of its former entries the best perturbation counts as sparser."""
REDUCTION, LEAST = 1.5, 0.1
"""Divisor of the step size if the perturbation is not sparser, and its minimum in `eps`."""


class APGDL1State(NamedTuple):
    """Per row: the best point, how many entries a step changes, the step size."""

    best: Theta
    best_grad: Theta
    best_value: Rows
    entries: Rows
    changed: Rows
    step_size: Rows


def largest(grad: Tensor, entries: Rows) -> Tensor:
    """The signs of the `entries` largest entries of each row (including ties), else 0."""
    size = rows.flatten(grad).abs()
    last = (entries.round().long() - 1).clamp(0, size.shape[1] - 1)
    level = size.sort(dim=1, descending=True).values.gather(1, last[:, None])
    return rows.flatten(grad).sign().masked_fill_(size < level, 0).reshape(grad.shape)


@final
@dataclass(frozen=True)
class APGDL1(AbstractStepRule[APGDL1State]):
    """A step of length `step` in L1, spread evenly over the largest entries of the gradient.

    Every 4 % of the budget the number of entries is set to two thirds of those that the best
    perturbation changes. A row whose best perturbation got sparser (by 5 %) returns to it,
    with step size `eps`; for the others the step size shrinks by a third, down to `eps` / 10.

    - `eps`: the radius, and the first step size
    - `goes_on`: the first point is the result of another solve: the number of entries is set
      from it, as at a checkpoint

    **Source**: Croce & Hein 2021 (arXiv 2103.01208), Algorithm 1 and section 3.
    """

    eps: float
    goes_on: bool = False

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def init(self, theta: Theta, info: StepInfo) -> APGDL1State:
        changed = torch.full_like(info.value, float(theta[0].numel()))
        entries = FIRST_SHARE * changed
        if self.goes_on:
            changed = _changed(theta, info)
            entries = changed / THINNING
        return APGDL1State(
            best=theta,
            best_grad=required(info.grad),
            best_value=info.value,
            entries=entries,
            changed=changed,
            step_size=torch.full_like(info.value, self.eps),
        )

    def step(self, theta: Theta, info: StepInfo, state: APGDL1State) -> tuple[Tensor, APGDL1State]:
        grad = required(info.grad)
        better = info.value < state.best_value
        state = state._replace(
            best=rows.where(better, theta, state.best),
            best_grad=rows.where(better, grad, state.best_grad),
            best_value=torch.where(better, info.value, state.best_value),
        )
        if info.step and info.step % max(int(CHECK * info.max_steps), 1) == 0:
            theta, grad, state = self._at_checkpoint(theta, grad, info, state)
        direction = largest(grad, state.entries)
        count = rows.flatten(direction).abs().sum(dim=1).clamp_(min=1)
        return theta - rows.expand(state.step_size / count, theta) * direction, state

    def _at_checkpoint(
        self, theta: Theta, grad: Tensor, info: StepInfo, state: APGDL1State
    ) -> tuple[Tensor, Tensor, APGDL1State]:
        changed = _changed(state.best, info)
        sparser = changed < SPARSER * state.changed
        smaller = (state.step_size / REDUCTION).clamp(min=LEAST * self.eps)
        return (
            rows.where(sparser, state.best, theta),
            rows.where(sparser, state.best_grad, grad),
            state._replace(
                entries=changed / THINNING,
                changed=changed,
                step_size=torch.where(sparser, self.eps, smaller),
            ),
        )


def _changed(x: Tensor, info: StepInfo) -> Rows:
    """How many entries of each row differ from the centre's."""
    return rows.flatten(x != info.center).sum(dim=1).to(info.value.dtype)
