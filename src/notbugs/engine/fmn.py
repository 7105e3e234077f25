"""Fast minimum-norm: a step rule for the nearest success in L0, L1, L2 or Linf."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images, Mask, Rows, Theta
from notbugs.engine.nearest import cosine
from notbugs.engine.norms import L2, AbstractNorm, AbstractSize, Linf
from notbugs.engine.rules import AbstractStepRule, StepInfo, given

LAST_STEP, LAST_SHRINK = 0.01, 0.02
"""The last step and the last change of the radius, as shares of the first ones."""

FALL = 0.3
"""The share by which a radius falls, at least, until a broken row has stood again."""


class FMNState(NamedTuple):
    """Each row's radius, the size of its nearest success so far (inf before any), and
    whether it has stood since.
    """

    radius: Rows
    nearest: Rows
    bounded: Mask


@final
@dataclass(frozen=True)
class FMN(AbstractStepRule[FMNState]):
    """A gradient step, then onto a ball that shrinks on broken rows and grows on others.

    Until a row is first broken, its ball reaches as far as the linear model of the loss
    puts the boundary, and grows at every step all the same. That may be far too much where
    the gradient is small at first: so a broken row's radius falls by `FALL` at least, until
    the row stands again. The objective's value must be
    above 0 where a row stands and below 0 where it is broken, as the margin is.

    `step_size` is in L2 pixel units, and for Linf in radii along the gradient's signs: a step of
    few L2 units would leave the pixels of small gradients where they are. It falls to a
    hundredth; `shrink` is the first
    relative change of the radius and falls to a fiftieth. A count of pixels changes by one
    at least.

    **Source**: Pintor et al. 2021 (arXiv 2102.12827), Algorithm 1.
    """

    size: AbstractSize
    step_size: float = 1.0
    shrink: float = 0.05

    def __post_init__(self) -> None:
        check_positive(self.step_size, "step_size")
        if not (0 < self.shrink < 1):
            raise bad_value("shrink", "lie strictly between 0 and 1", self.shrink)

    def init(self, theta: Theta, info: StepInfo) -> FMNState:
        zero = torch.zeros_like(info.value)
        return FMNState(zero, torch.full_like(zero, float("inf")), torch.zeros_like(info.success))

    def step(self, theta: Theta, info: StepInfo, state: FMNState) -> tuple[Tensor, FMNState]:
        grad = given(info.grad)
        state = self._resized(theta, grad, info, state)
        length = cosine(self.step_size, LAST_STEP * self.step_size, info)
        ahead = theta.sub(self._toward(grad, state.radius), alpha=length)
        return self.size.project_in_box(ahead, info.center, state.radius), state

    def _toward(self, grad: Tensor, radius: Rows) -> Tensor:
        """The step of length 1 up the gradient."""
        if isinstance(self.size, Linf):
            return self.size.steepest(grad) * rows.expand(radius, grad)
        return L2().steepest(grad)

    def _resized(self, theta: Theta, grad: Tensor, info: StepInfo, state: FMNState) -> FMNState:
        size = self.size.size(theta - info.center)
        bounded = state.bounded | (state.nearest.isfinite() & ~info.success)
        nearest = torch.where(info.success, size.minimum(state.nearest), state.nearest)
        change = cosine(self.shrink, LAST_SHRINK * self.shrink, info)
        within = state.radius.minimum(nearest)
        steep = self._changed(within, 1 - max(change, FALL))
        inner = torch.where(bounded, self._changed(within, 1 - change), steep)
        outer = self._changed(state.radius, 1 + change)
        ahead = (size + self._missing(theta, grad, info.value)).maximum(outer)
        outer = torch.where(nearest.isinf(), ahead, outer)
        return FMNState(torch.where(info.success, inner, outer), nearest, bounded)

    def _changed(self, radius: Rows, factor: float) -> Rows:
        if isinstance(self.size, AbstractNorm):
            return radius * factor
        other = (radius * factor).floor()
        if factor > 1:
            return other.maximum(radius + 1)  # a count changes by one at least
        return other.minimum(radius - 1).clamp(min=0)

    def _missing(self, theta: Theta, grad: Tensor, value: Rows) -> Rows:
        """How much larger the change must get where the loss is linear."""
        if not isinstance(self.size, AbstractNorm):
            return _pixels(theta, grad, value)
        missing = value.clamp(min=0) / self.size.dual(grad).clamp(min=1e-12)
        # A vanishing gradient must not give a radius that never comes down again: no change
        # within the pixel box is larger than its number of entries.
        return missing.clamp(max=float(grad[0].numel()))


def _pixels(theta: Images, grad: Tensor, value: Rows) -> Rows:
    """The fewest pixels that bring a linear loss from `value` to zero within the box."""
    gain = grad.abs() * torch.where(grad > 0, theta, 1 - theta)
    gain = gain.reshape(*gain.shape[:2], -1).sum(dim=1).sort(dim=1, descending=True).values
    return (gain.cumsum(dim=1) < value[:, None]).sum(dim=1).to(value.dtype) + 1
