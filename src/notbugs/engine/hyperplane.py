"""The exact projection onto a hyperplane within the pixel box, for L1, L2 and Linf."""

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Images, Rows
from notbugs.engine.norms import AbstractNorm


def onto_hyperplane(x: Images, normal: Images, rest: Rows, norm: AbstractNorm) -> Images:
    """The shortest move d with <normal, d> = rest and 0 <= x + d <= 1, row by row.

    argmin over d of norm(d); if the box contains no such point, the move to the corner
    nearest to the hyperplane. `x` lies in the box.

    Every entry moves along the sign of rest * normal, by at most its `room` within the box.
    Linf: all entries move equally, min(t, room). L2: in proportion to the normal,
    min(t |normal|, room). The level t follows from the sorted levels at which entries reach
    the box. L1: entries move to the box one after the other, the largest |normal| first.

    **Source**: Croce & Hein 2019 (arXiv 1907.02044), section 2.2 and appendix A.
    """
    slope = rows.flatten(normal) * rest.sign()[:, None]
    weight, point = slope.abs(), rows.flatten(x)
    room = torch.where(slope > 0, 1 - point, point).clamp_(min=0)
    if norm.name == "l1":
        moved = _one_by_one(weight, room, rest.abs())
    elif norm.name == "l2":
        level = _level(weight.square(), room / weight, rest.abs())
        moved = torch.minimum(_finite(level * weight), room)
    else:
        moved = torch.minimum(_level(weight, room, rest.abs()), room)
    return (moved * slope.sign()).reshape(x.shape)


def _finite(product: Tensor) -> Tensor:
    """A product in which infinity times zero is zero: an entry with slope zero does not move."""
    return product.nan_to_num(nan=0.0, posinf=float("inf"))


def _level(gain: Tensor, limits: Tensor, rest: Rows) -> Tensor:
    """t at which the sum of gain * min(t, limits) is rest, [n, 1]; infinite if there is none."""
    limits, order = torch.where(gain > 0, limits, 0.0).sort(dim=1)
    gain = gain.gather(1, order)
    # Two cumulative sums, because the difference of sums would lose precision.
    clamped = (gain * limits).cumsum(dim=1)
    free_gain = gain.flip(1).cumsum(dim=1).flip(1)
    before = clamped - gain * limits
    reached = before + free_gain * limits
    place = (reached < rest[:, None]).sum(dim=1, keepdim=True)
    inside = place.clamp(max=gain.shape[1] - 1)
    level = (rest[:, None] - before.gather(1, inside)) / free_gain.gather(1, inside)
    return torch.where(place < gain.shape[1], level.nan_to_num(nan=0.0), float("inf"))


def _one_by_one(weight: Tensor, room: Tensor, rest: Rows) -> Tensor:
    """Moves, [n, d], along the entries of largest weight first, until `rest` is reached."""
    weight, order = weight.sort(dim=1, descending=True, stable=True)
    gain = weight * room.gather(1, order)
    remaining = rest[:, None] - (gain.cumsum(dim=1) - gain)
    moved = (remaining / weight).nan_to_num(nan=0.0, posinf=float("inf"), neginf=0.0).clamp_(min=0)
    moved = torch.minimum(moved, room.gather(1, order))
    return torch.zeros_like(moved).scatter_(1, order, torch.where(weight > 0, moved, 0.0))
