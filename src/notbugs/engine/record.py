"""Records of a solve: the kept points, the steps taken, and the number of zero gradients.

For small problems many steps are recorded at once, because the overhead dominates there.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Mask, Rows, Theta
from notbugs.engine.evaluators import Point
from notbugs.engine.keep import AbstractKeep, Kept
from notbugs.engine.objective import OfOutputs
from notbugs.engine.rules import required
from notbugs.engine.state import State

BLOCK = 64
"""Steps that are recorded together."""
SMALL = 2**16
"""Entries of a batch above which the cost of recording each step is negligible."""


@dataclass
class Record:
    """Records each step as it is taken."""

    keep: AbstractKeep
    defers: ClassVar[bool] = False
    """Whether it computes value and success later, from the outputs."""

    def see(self, state: State, point: Point) -> State:
        """The state with the better of the new and the kept point."""
        kept = self.keep.update(Kept(point.x, point.score, point.success), state.kept, state.center)
        if state.kept is not None and state.done is not None:
            kept = rows.merge(state.done, state.kept, kept)
        return state._replace(kept=kept)

    def count(self, state: State, point: Point) -> State:
        """The state with a step, and zero gradients, counted for the rows that took it."""
        slopes = point.jacobian if point.grad is None else point.grad
        moved = 1 if state.done is None else ~state.done
        steps, zero_grads = state.steps + moved, state.zero_grads
        if slopes is not None:
            zero_grads = zero_grads + (all_zero(slopes) & moved)
        return state._replace(steps=steps, zero_grads=zero_grads)


@dataclass
class BlockRecord(Record):
    """Records up to `BLOCK` steps together, with the identical result.

    Outputs are copied, because a model may reuse their memory. Points and sizes of gradients
    are copied step by step: an operation on those of all steps would start the thread pool,
    which takes longer than the work.
    """

    objective: OfOutputs
    steps: int
    defers: ClassVar[bool] = True
    _x: Tensor = field(default_factory=lambda: torch.empty(0))
    _points: tuple[Tensor, ...] = ()
    _outputs: list[Tensor] = field(default_factory=list[Tensor])
    _sizes: list[Rows] = field(default_factory=list[Rows])

    def see(self, state: State, point: Point) -> State:
        """Stores the point; the last one of a solve, which has no gradient, is recorded at once."""
        if point.grad is None:
            return super().see(state, point)
        if not self._points:
            self._x = point.x.new_empty((min(self.steps, BLOCK), *point.x.shape))
            self._points = self._x.unbind()
        self._points[len(self._outputs)].copy_(point.x)
        self._outputs.append(required(point.outputs).clone())
        self._sizes.append(largest(point.grad))
        return state

    def count(self, state: State, point: Point) -> State:
        """Records the stored points if the block is full or the steps are over."""
        self.steps -= 1
        full = not self.steps or len(self._outputs) == len(self._points)
        return self._recorded(state) if full else state

    def _recorded(self, state: State) -> State:
        steps, n = len(self._outputs), len(state.place)
        outputs = torch.cat(self._outputs)
        context = rows.select(state.context, torch.arange(n, device=outputs.device).repeat(steps))
        value = at_least_float32(self.objective.value_of(outputs, context)).reshape(steps, n)
        success = self.objective.success_of(outputs, context).reshape(steps, n)
        zero = ~(torch.stack(self._sizes) > 0)
        self._outputs, self._sizes = [], []
        new = Kept(self._x[:steps], value, success)
        kept = self.keep.best_of(new, state.kept, state.center)
        return state._replace(
            kept=kept._replace(x=kept.x.clone()),  # the next block overwrites this one
            steps=state.steps + steps,
            zero_grads=state.zero_grads + zero.sum(dim=0),
        )


def is_small(theta: Theta) -> bool:
    """Whether a batch is so small that overhead dominates a step."""
    return theta.numel() <= SMALL


def largest(grad: Theta) -> Rows:
    """The largest absolute entry of each row, [n]; NaN if the row has one."""
    # Several times faster than the norm of order infinity.
    return rows.flatten(grad).abs().amax(dim=1)


def all_zero(grad: Theta) -> Mask:
    """Which rows have a gradient of zero in every entry, [n].

    A row with a NaN counts as well: it cannot move either, and a model with such gradients
    must not be taken for robust.
    """
    return ~(largest(grad) > 0)
