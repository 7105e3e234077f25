"""The books of several steps at once, for problems so small that the books are what costs."""

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Mask
from notbugs.engine.keep import Kept

STEPS = 16
"""Steps whose points wait to be entered together."""
SMALL = 2**17
"""Entries of a batch above which entering each step by itself costs nothing beside the model."""


def pays(theta: Tensor) -> bool:
    """Whether the batch is so small that a step is spent on overhead."""
    return theta.numel() <= SMALL


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


def all_zero(grad: Tensor) -> Mask:
    """Rows whose gradient is zero in every entry, [n].

    A row with a NaN counts as well: it cannot move either, and a model with such gradients
    must not pass for a robust one.
    """
    # Several times faster than (grad == 0).all(dim=1), and than the norm of order infinity.
    return ~(rows.flatten(grad).abs().amax(dim=1) > 0)
