"""What a solve returns: data, not exceptions."""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Int
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Counts, Images, Mask, Rows
from notbugs.engine.norms import AbstractSize


class Status(IntEnum):
    """How a row ended."""

    MAX_STEPS = 0
    STOPPED = 1
    NOT_FINITE = 2


@dataclass(frozen=True)
class Solution:
    """The kept point of every row and how it was reached.

    - `x` [n, ...]: the images; `value` [n]: the objective at them; `success` [n]
    - `status` [n]: a `Status` for each row
    - `steps` [n]: gradient steps taken; `zero_grads` [n]: steps whose gradient was all zero
    - `forwards`, `backwards`: passes summed over rows, the final evaluation included
    """

    x: Images
    value: Rows
    success: Mask
    status: Counts
    steps: Counts
    zero_grads: Counts
    forwards: int
    backwards: int

    def select(self, index: Int[Tensor, " m"]) -> "Solution":
        """The rows `index`; the passes stay those of all rows."""
        return replace(self, **{name: getattr(self, name)[index] for name in PER_ROW})


PER_ROW = ("x", "value", "success", "status", "steps", "zero_grads")
"""The fields of a solution that have an entry a row."""


def joined(whole: Solution, part: Solution, index: Int[Tensor, " m"]) -> Solution:
    """`whole` with its rows `index` replaced by those of `part`; steps and passes add up."""
    names = ("x", "value", "success", "status")
    new = {n: getattr(whole, n).index_copy(0, index, getattr(part, n)) for n in names}
    return Solution(
        **new,
        steps=whole.steps.index_add(0, index, part.steps),
        zero_grads=whole.zero_grads.index_add(0, index, part.zero_grads),
        forwards=whole.forwards + part.forwards,
        backwards=whole.backwards + part.backwards,
    )


def after(first: Solution, found: Solution) -> Solution:
    """`found`, which went on from the points of `first`: steps and passes add up."""
    return replace(
        found,
        steps=first.steps + found.steps,
        zero_grads=first.zero_grads + found.zero_grads,
        forwards=first.forwards + found.forwards,
        backwards=first.backwards + found.backwards,
    )


def nearer(best: Solution, again: Solution, center: Images, size: AbstractSize) -> Solution:
    """Of two solutions, row by row: a success before none, then the smaller distance."""
    old, new = size.size(best.x - center), size.size(again.x - center)
    lower = ~((again.value >= best.value) | again.value.isnan())
    both = best.success & again.success
    better = torch.where(both, new < old, again.success | (lower & ~best.success))
    names = ("x", "value", "success", "status")
    merged = {n: rows.where(better, getattr(again, n), getattr(best, n)) for n in names}
    return Solution(
        **merged,
        steps=best.steps + again.steps,
        zero_grads=best.zero_grads + again.zero_grads,
        forwards=best.forwards + again.forwards,
        backwards=best.backwards + again.backwards,
    )
