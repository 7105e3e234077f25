"""FMN (fast minimum-norm): a step rule for the nearest success in L0, L1, L2 or Linf."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images, Mask, Rows, Theta
from notbugs.engine.nearest import cosine
from notbugs.engine.norms import L2, AbstractNorm, AbstractSize, Linf
from notbugs.engine.rules import AbstractStepRule, StepInfo, required

LAST_STEP, LAST_SHRINK = 0.01, 0.02
"""Last step size and last relative change of the radius, as shares of the first."""

FALL = 0.3
"""Smallest relative decrease of a broken row's radius before a later point is not broken."""


class FMNState(NamedTuple):
    """Each row's radius, the size of its nearest success so far (inf if none), and whether a
    point after the first success was not broken.
    """

    radius: Rows
    nearest: Rows
    unbroken_since: Mask


@final
@dataclass(frozen=True)
class FMN(AbstractStepRule[FMNState]):
    """A gradient step projected onto a ball that shrinks if the row is broken, else grows.

    Until a row is first broken, its radius is the distance to the linearised boundary, and
    grows at every step in any case. This estimate can be far too large if the first gradient
    is small: so the radius of a broken row decreases by at least `FALL` until a point is not
    broken again. The objective's value must be above 0 if a row is not broken and below 0 if
    it is.

    `step_size` is in L2 pixel units, and for Linf in radii along the gradient's signs: a step of
    few L2 units would hardly move pixels with small gradients. It decays to a hundredth;
    `shrink` is the first relative change of the radius and decays to a fiftieth. For L0 the
    radius changes by at least one pixel.

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
        grad = required(info.grad)
        state = self._updated(theta, grad, info, state)
        length = cosine(self.step_size, LAST_STEP * self.step_size, info)
        new = theta.sub(self._direction(grad, state.radius), alpha=length)
        return self.size.project_in_box(new, info.center, state.radius), state

    def _direction(self, grad: Tensor, radius: Rows) -> Tensor:
        """The ascent direction: of L2 length 1, or for Linf of Linf length `radius`."""
        if isinstance(self.size, Linf):
            return self.size.steepest(grad) * rows.expand(radius, grad)
        return L2().steepest(grad)

    def _updated(self, theta: Theta, grad: Tensor, info: StepInfo, state: FMNState) -> FMNState:
        size = self.size.size(theta - info.center)
        unbroken_since = state.unbroken_since | (state.nearest.isfinite() & ~info.success)
        nearest = torch.where(info.success, size.minimum(state.nearest), state.nearest)
        change = cosine(self.shrink, LAST_SHRINK * self.shrink, info)
        smaller = state.radius.minimum(nearest)
        fast_inner = self._scaled(smaller, 1 - max(change, FALL))
        inner = torch.where(unbroken_since, self._scaled(smaller, 1 - change), fast_inner)
        outer = self._scaled(state.radius, 1 + change)
        linear = (size + self._to_boundary(theta, grad, info.value)).maximum(outer)
        outer = torch.where(nearest.isinf(), linear, outer)
        return FMNState(torch.where(info.success, inner, outer), nearest, unbroken_since)

    def _scaled(self, radius: Rows, factor: float) -> Rows:
        if isinstance(self.size, AbstractNorm):
            return radius * factor
        scaled = (radius * factor).floor()
        if factor > 1:
            return scaled.maximum(radius + 1)  # L0 changes by at least one pixel
        return scaled.minimum(radius - 1).clamp(min=0)

    def _to_boundary(self, theta: Theta, grad: Tensor, value: Rows) -> Rows:
        """The size of the step to the linearised boundary."""
        if not isinstance(self.size, AbstractNorm):
            return _pixels(theta, grad, value)
        distance = value.clamp(min=0) / self.size.dual(grad).clamp(min=1e-12)
        # A vanishing gradient must not give an unbounded radius: no perturbation within the
        # pixel box is larger than its number of entries.
        return distance.clamp(max=float(grad[0].numel()))


def _pixels(theta: Images, grad: Tensor, value: Rows) -> Rows:
    """The fewest pixels whose change within the box lowers a linear loss from `value` to zero."""
    gain = grad.abs() * torch.where(grad > 0, theta, 1 - theta)
    gain = gain.reshape(*gain.shape[:2], -1).sum(dim=1).sort(dim=1, descending=True).values
    return (gain.cumsum(dim=1) < value[:, None]).sum(dim=1).to(value.dtype) + 1
