"""What a solve did on its way: the value and the success of every row at every step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from notbugs.core.types import Keys, Mask, Rows
from notbugs.engine.rules import StepInfo

Observer: TypeAlias = Callable[[StepInfo], None]
"""What `Solver.minimise` calls at every step."""


class _Seen(NamedTuple):
    """One step: the rows at work, their values and successes."""

    place: Tensor
    value: Rows
    success: Mask


@dataclass
class TracedRun:
    """One solve from its first step: a restart, a class tried, a constant of a search.

    - `rows` [m]: the places of its rows in the batch of the whole call
    - `max_steps`: its budget T; what is recorded are T + 1 points, the start among them
    """

    rows: Keys
    max_steps: int
    seen: list[_Seen] = field(default_factory=list[_Seen])

    @property
    def values(self) -> Float[Tensor, "steps n"]:
        """The objective, [T + 1, m]: a row that has finished keeps its last value."""
        return self._table([(at.place, at.value) for at in self.seen])

    @property
    def reached(self) -> Bool[Tensor, "steps n"]:
        """Whether the row has succeeded at this point or an earlier one, [T + 1, m]."""
        table = self._table([(at.place, at.success) for at in self.seen])
        return table.cumsum(dim=0) > 0

    def _table(self, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
        whole = steps[0][1].new_zeros(int(self.rows.max()) + 1)
        lines: list[Tensor] = []
        for place, entries in steps:
            whole = whole.index_copy(0, place, entries)
            lines.append(whole[self.rows])
        # Where every row has finished, the solver ends before its budget does.
        return torch.stack(lines + lines[-1:] * (self.max_steps + 1 - len(lines)))


@dataclass
class Trace:
    """An `observe` callback that records every row at every step, each solve as a run.

    One trace is for one call of `Solver.minimise` or of an attack. Nothing is asked of
    the device until a run is read.
    """

    runs: list[TracedRun] = field(default_factory=list[TracedRun])

    def __call__(self, info: StepInfo) -> None:
        """Records one step; step 0 begins a run."""
        if info.place is None:
            raise RuntimeError("A trace needs the places of the rows, which this loop leaves out.")
        if info.step == 0:
            self.runs.append(TracedRun(info.place, info.max_steps))
        # Copies: a fast model may write its next output where this one lies.
        seen = _Seen(info.place, info.value.detach().clone(), info.success.clone())
        self.runs[-1].seen.append(seen)


def on_rows(observe: Observer | None, index: Int[Tensor, " m"]) -> Observer | None:
    """An observer for a solve of the rows `index` alone, which tells their places in the whole."""
    if observe is None:
        return None

    def told(info: StepInfo) -> None:
        place = None if info.place is None else index[info.place]
        observe(replace(info, place=place))

    return told
