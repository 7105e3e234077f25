"""What is entered of every step: the point to keep, the steps taken, gradients that were zero.

Small problems enter many steps at once, because there it is what costs.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Mask, Rows, Theta
from notbugs.engine.evaluators import Point, in_float32
from notbugs.engine.keep import AbstractKeep, Kept
from notbugs.engine.objective import OfOutputs
from notbugs.engine.rules import given
from notbugs.engine.state import State

BLOCK = 64
"""Steps whose points wait to be entered together."""
SMALL = 2**16
"""Entries of a batch above which entering each step by itself costs nothing beside the model."""


@dataclass
class Record:
    """Enters every step by itself."""

    keep: AbstractKeep
    defers: ClassVar[bool] = False
    """Whether it works value and success out of the outputs, later."""

    def see(self, state: State, point: Point) -> State:
        """Lets the keep choose between the point and the one held."""
        kept = self.keep.update(Kept(point.x, point.score, point.success), state.kept, state.center)
        if state.kept is not None and state.done is not None:
            kept = rows.merge(state.done, state.kept, kept)
        return state._replace(kept=kept)

    def count(self, state: State, point: Point) -> State:
        """Counts a step, and gradients that are zero, of the rows that took it."""
        slopes = point.jacobian if point.grad is None else point.grad
        moved = 1 if state.done is None else ~state.done
        steps, zero_grads = state.steps + moved, state.zero_grads
        if slopes is not None:
            zero_grads = zero_grads + (all_zero(slopes) & moved)
        return state._replace(steps=steps, zero_grads=zero_grads)


@dataclass
class BlockRecord(Record):
    """Enters up to `BLOCK` steps together, with the same result to the last bit.

    Outputs are copied, because a model may write its next ones over them. Points and sizes
    of gradients are taken step by step: an operation on those of all steps would wake the
    pool of threads, which takes longer than the work.
    """

    objective: OfOutputs
    steps: int
    defers: ClassVar[bool] = True
    _x: Tensor = field(default_factory=lambda: torch.empty(0))
    _points: tuple[Tensor, ...] = ()
    _outputs: list[Tensor] = field(default_factory=list[Tensor])
    _sizes: list[Rows] = field(default_factory=list[Rows])

    def see(self, state: State, point: Point) -> State:
        """Notes the point; the last one of a solve, which has no gradient, is entered."""
        if point.grad is None:
            return super().see(state, point)
        if not self._points:
            self._x = point.x.new_empty((min(self.steps, BLOCK), *point.x.shape))
            self._points = self._x.unbind()
        self._points[len(self._outputs)].copy_(point.x)
        self._outputs.append(given(point.outputs).clone())
        self._sizes.append(largest(point.grad))
        return state

    def count(self, state: State, point: Point) -> State:
        """Enters what was noted, where a block is full or the steps are over."""
        self.steps -= 1
        full = not self.steps or len(self._outputs) == len(self._points)
        return self._entered(state) if full else state

    def _entered(self, state: State) -> State:
        b, n = len(self._outputs), len(state.place)
        outputs = torch.cat(self._outputs)
        context = rows.select(state.context, torch.arange(n, device=outputs.device).repeat(b))
        value = in_float32(self.objective.value_of(outputs, context)).reshape(b, n)
        success = self.objective.success_of(outputs, context).reshape(b, n)
        zero = ~(torch.stack(self._sizes) > 0)
        self._outputs, self._sizes = [], []
        seen = Kept(self._x[:b], value, success)
        kept = self.keep.best_of(seen, state.kept, state.center)
        return state._replace(
            kept=kept._replace(x=kept.x.clone()),  # the next block is written over this one
            steps=state.steps + b,
            zero_grads=state.zero_grads + zero.sum(dim=0),
        )


def is_small(theta: Theta) -> bool:
    """Whether a batch is so small that a step is spent on overhead."""
    return theta.numel() <= SMALL


def largest(grad: Theta) -> Rows:
    """The size of each row's largest entry, [n]; NaN where the row has one."""
    # Several times faster than the norm of order infinity.
    return rows.flatten(grad).abs().amax(dim=1)


def all_zero(grad: Theta) -> Mask:
    """Rows whose gradient is zero in every entry, [n].

    A row with a NaN counts as well: it cannot move either, and a model with such gradients
    must not pass for a robust one.
    """
    return ~(largest(grad) > 0)
