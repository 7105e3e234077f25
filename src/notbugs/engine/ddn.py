"""DDN (decoupled direction and norm): a step rule for the nearest success in L2."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Rows, Theta
from notbugs.engine.nearest import cosine
from notbugs.engine.norms import L2
from notbugs.engine.rules import AbstractStepRule, StepInfo, required

LAST_STEP = 0.01
"""Last step size as a share of the first."""


class DDNState(NamedTuple):
    """Each row's radius, and the largest possible one in the pixel box."""

    radius: Rows
    largest: Rows


@final
@dataclass(frozen=True)
class DDN(AbstractStepRule[DDNState]):
    """A gradient step projected onto a sphere that shrinks if the row is broken, else grows.

    radius <- radius * (1 - `shrink`) if the row is broken, else radius * (1 + `shrink`);
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
        largest = L2().size(torch.maximum(center, 1 - center))
        return DDNState(torch.full_like(largest, self.radius).minimum(largest), largest)

    def step(self, theta: Theta, info: StepInfo, state: DDNState) -> tuple[Tensor, DDNState]:
        factor = torch.where(info.success, 1 - self.shrink, 1 + self.shrink)
        radius = (state.radius * factor).minimum(state.largest)
        length = cosine(self.step_size, LAST_STEP * self.step_size, info)
        direction = L2().steepest(required(info.grad))
        d = L2().steepest(theta - info.center - length * direction)
        return info.center + d * rows.expand(radius, d), DDNState(radius, state.largest)
