"""Decoupled direction and norm: a step rule for the nearest success in L2."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Rows, Theta
from notbugs.engine.nearest import cosine
from notbugs.engine.norms import L2
from notbugs.engine.rules import AbstractStepRule, StepInfo, given

LAST_STEP = 0.01
"""The last step's length as a share of the first one's."""


class DDNState(NamedTuple):
    """Each row's current radius, and the largest one that the pixel box leaves it."""

    radius: Rows
    room: Rows


@final
@dataclass(frozen=True)
class DDN(AbstractStepRule[DDNState]):
    """A step along the gradient, then onto a sphere that shrinks inside and grows outside.

    radius <- radius * (1 - `shrink`) where the row is broken, * (1 + `shrink`) elsewhere;
    x <- center + radius * d / ||d||, with d = x - center - step * grad / ||grad||.

    **Source**: Rony et al. 2018 (arXiv 1811.09600), Algorithm 1.
    """

    step_size: float = 1.0
    radius: float = 1.0
    shrink: float = 0.05

    def __post_init__(self) -> None:
        check_positive(self.step_size, "step_size")
        check_positive(self.radius, "radius")
        if not (0 < self.shrink < 1):
            raise bad_value("shrink", "lie strictly between 0 and 1", self.shrink)

    def init(self, theta: Theta, info: StepInfo) -> DDNState:
        center = info.center
        room = L2().size(torch.maximum(center, 1 - center))
        return DDNState(torch.full_like(room, self.radius).minimum(room), room)

    def step(self, theta: Theta, info: StepInfo, state: DDNState) -> tuple[Tensor, DDNState]:
        factor = torch.where(info.success, 1 - self.shrink, 1 + self.shrink)
        radius = (state.radius * factor).minimum(state.room)
        length = cosine(self.step_size, LAST_STEP * self.step_size, info)
        toward = L2().steepest(given(info.grad))
        d = L2().steepest(theta - info.center - length * toward)
        return info.center + d * rows.expand(radius, d), DDNState(radius, state.room)
