"""Traces of a solve: the value and the success of every row at every step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from notbugs.core.types import Keys, Mask, Rows
from notbugs.engine.rules import StepInfo

Observer: TypeAlias = Callable[[StepInfo], None]
"""A callback that `Solver.minimise` calls at every step."""


class _Step(NamedTuple):
    """One step: the active rows, their values and successes."""

    place: Tensor
    value: Rows
    success: Mask


@dataclass
class TracedRun:
    """One solve: a restart, a target class, or a constant of a search.

    - `rows` [m]: the indices of its rows in the batch of the whole call
    - `max_steps`: its budget T; T + 1 points are recorded, the first included
    """

    rows: Keys
    max_steps: int
    steps: list[_Step] = field(default_factory=list[_Step])

    @property
    def values(self) -> Float[Tensor, "steps n"]:
        """The objective, [T + 1, m]: a row that has finished keeps its last value."""
        return self._table([(step.place, step.value) for step in self.steps])

    @property
    def reached(self) -> Bool[Tensor, "steps n"]:
        """Whether the row has succeeded at this point or an earlier one, [T + 1, m]."""
        table = self._table([(step.place, step.success) for step in self.steps])
        return table.cumsum(dim=0) > 0

    def _table(self, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
        current = steps[0][1].new_zeros(int(self.rows.max()) + 1)
        table: list[Tensor] = []
        for place, entries in steps:
            current = current.index_copy(0, place, entries)
            table.append(current[self.rows])
        # The solver ends early if every row has finished.
        return torch.stack(table + table[-1:] * (self.max_steps + 1 - len(table)))


@dataclass
class Trace:
    """An `observe` callback that records every row at every step, each solve as a run.

    One trace is for one call of `Solver.minimise` or of an attack. It does not wait for the
    device until a run is read.
    """

    runs: list[TracedRun] = field(default_factory=list[TracedRun])

    def __call__(self, info: StepInfo) -> None:
        """Records one step; step 0 starts a run."""
        if info.place is None:
            raise RuntimeError("A trace needs the places of the rows, which this loop leaves out.")
        if info.step == 0:
            self.runs.append(TracedRun(info.place, info.max_steps))
        # Copies, because a fast model may reuse the memory of its outputs.
        step = _Step(info.place, info.value.detach().clone(), info.success.clone())
        self.runs[-1].steps.append(step)


def on_rows(observe: Observer | None, index: Int[Tensor, " m"]) -> Observer | None:
    """An observer for a solve of the rows `index`, which passes on their places in the batch."""
    if observe is None:
        return None

    def observe_rows(info: StepInfo) -> None:
        place = None if info.place is None else index[info.place]
        observe(replace(info, place=place))

    return observe_rows
