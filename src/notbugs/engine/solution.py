"""The result of a solve, and how results of several solves combine."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Counts, Images, Mask, Rows
from notbugs.engine.keep import AbstractKeep, Kept, SmallestSuccess, SuccessThenLowest
from notbugs.engine.norms import AbstractSize


@dataclass(frozen=True)
class Solution:
    """The kept point of every row, with the steps and passes it took.

    - `x` [n, ...]: the images; `value` [n]: the objective at them; `success` [n]
    - `gave_up` [n]: the row stopped early without a success
    - `steps` [n]: gradient steps taken; `zero_grads` [n]: steps whose gradient was all zero
    - `forwards`, `backwards`: passes summed over rows, the final evaluation included
    """

    x: Images
    value: Rows
    success: Mask
    gave_up: Mask
    steps: Counts
    zero_grads: Counts
    forwards: int
    backwards: int

    def select(self, index: Int[Tensor, " m"]) -> "Solution":
        """The rows `index`; `forwards` and `backwards` remain those of all rows."""
        return replace(self, **{name: getattr(self, name)[index] for name in PER_ROW})


PER_ROW = ("x", "value", "success", "gave_up", "steps", "zero_grads")
"""The fields of a solution with one entry per row."""


def merged(
    first: Solution, later: Solution, index: Int[Tensor, " m"], take: Bool[Tensor, " m"]
) -> Solution:
    """`first`, with its rows `index` taken from `later` where `take`; steps and passes add up.

    A row has given up if it did in either.
    """
    columns = {n: (getattr(first, n)[index], getattr(later, n)) for n in ("x", "value", "success")}
    columns = {n: rows.where(take, new, old) for n, (old, new) in columns.items()}
    columns["gave_up"] = (first.gave_up[index] | later.gave_up) & ~columns["success"]
    return Solution(
        **{n: getattr(first, n).index_copy(0, index, column) for n, column in columns.items()},
        steps=first.steps.index_add(0, index, later.steps),
        zero_grads=first.zero_grads.index_add(0, index, later.zero_grads),
        forwards=first.forwards + later.forwards,
        backwards=first.backwards + later.backwards,
    )


def resumed(refuted: Solution, later: Solution, index: Int[Tensor, " m"]) -> Solution:
    """`refuted` with its rows `index` replaced by `later`, a solve that continued them."""
    solution = merged(refuted, later, index, torch.ones_like(later.success))
    return replace(solution, gave_up=refuted.gave_up.index_copy(0, index, later.gave_up))


def after(first: Solution, last: Solution) -> Solution:
    """`last`, which started at the points of `first`; steps and passes add up."""
    all_rows = torch.arange(len(first.x), device=first.x.device)
    return merged(first, last, all_rows, torch.ones_like(last.success))


def chosen(
    first: Solution,
    later: Solution,
    keep: AbstractKeep,
    center: Images,
    index: Int[Tensor, " m"] | None = None,
) -> Solution:
    """`first`, with the rows that `keep` prefers taken from `later`, which has its rows `index`.

    - `center` [m, ...]: what a keep measures distances from; `index`: None is all rows
    """
    index = torch.arange(len(first.x), device=first.x.device) if index is None else index
    old, new = (Kept(s.x, s.value, s.success) for s in (first.select(index), later))
    return merged(first, later, index, keep.better(new, old, center))


def better(first: Solution, later: Solution, index: Int[Tensor, " m"]) -> Solution:
    """`first` with its rows `index` taken from `later` where those did better."""
    return chosen(first, later, SuccessThenLowest(), later.x, index)


def nearest(first: Solution, later: Solution, center: Images, size: AbstractSize) -> Solution:
    """Of two solutions, row by row: a success before none, then the smaller distance."""
    return chosen(first, later, SmallestSuccess(size), center)
