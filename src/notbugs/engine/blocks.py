"""The books of several steps at once, for problems so small that the books are what costs."""

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine.keep import Kept

STEPS = 64
"""Steps whose points wait to be entered together."""
SMALL = 2**16
"""Entries of a batch above which entering each step by itself costs nothing beside the model."""


def pays(theta: Tensor) -> bool:
    """Whether the batch is so small that a step is spent on overhead."""
    return theta.numel() <= SMALL


class Block:
    """What up to `STEPS` steps have seen, to be entered together.

    Outputs are copied, because a model may write its next ones over them. Points and sizes
    of gradients are taken step by step: an operation on those of all steps would wake the
    pool of threads, which takes longer than the work.
    """

    def __init__(self, x: Images, steps: int) -> None:
        """An empty block for points like `x` [n, ...], of a solve of so many steps."""
        self.x = x.new_empty((min(steps, STEPS), *x.shape))
        self._points = self.x.unbind()
        self._outputs: list[Tensor] = []
        self._sizes: list[Rows] = []

    def __len__(self) -> int:
        """How many steps it holds."""
        return len(self._outputs)

    @property
    def full(self) -> bool:
        """Whether it is to be taken."""
        return len(self) == len(self.x)

    def add(self, x: Images, outputs: Tensor, grad: Tensor) -> None:
        """The points [n, ...] of a step, with their outputs [n, k] and gradients [n, ...]."""
        self._points[len(self)].copy_(x)
        self._outputs.append(outputs.clone())
        self._sizes.append(largest(grad))

    def taken(self) -> tuple[Tensor, Tensor, Tensor]:
        """(points [b, n, ...], outputs [b * n, k], gradients all zero [b, n]); then empty."""
        zero = ~(torch.stack(self._sizes) > 0)
        found = self.x[: len(self)], torch.cat(self._outputs), zero
        self._outputs, self._sizes = [], []
        return found


def best(x: Tensor, value: Tensor, success: Tensor) -> Kept:
    """The first of the lowest successes of each row, or of all its points where none succeeds.

    `x` [b, n, ...], `value` [b, n] and `success` [b, n] hold b points for each row, in
    order. It is what `SuccessThenLowest` keeps when it sees one after the other.
    """
    rank = value.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))
    allowed = success | ~success.any(dim=0)
    rank = torch.where(allowed, rank, float("inf"))
    order = torch.arange(len(x), device=x.device)[:, None]
    first = torch.where(allowed & (rank == rank.amin(dim=0)), order, len(x)).amin(dim=0)
    row = torch.arange(x.shape[1], device=x.device)
    return Kept(x[first, row], value[first, row], success[first, row])


def largest(grad: Tensor) -> Rows:
    """The size of each row's largest entry, [n]; NaN where the row has one."""
    # Several times faster than the norm of order infinity.
    return rows.flatten(grad).abs().amax(dim=1)


def all_zero(grad: Tensor) -> Mask:
    """Rows whose gradient is zero in every entry, [n].

    A row with a NaN counts as well: it cannot move either, and a model with such gradients
    must not pass for a robust one.
    """
    return ~(largest(grad) > 0)
