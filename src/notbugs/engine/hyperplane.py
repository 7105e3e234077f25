"""The nearest point of the pixel box on a hyperplane: exact, in L1, L2 and Linf."""

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.types import Images, Rows
from notbugs.engine.norms import AbstractNorm


def onto_hyperplane(x: Images, normal: Images, rest: Rows, norm: AbstractNorm) -> Images:
    """The shortest move d with <normal, d> = rest and 0 <= x + d <= 1, row by row.

    argmin over d of norm(d); where the box holds no such point, the move to the corner
    that comes nearest to the hyperplane. `x` lies in the box.

    Every entry moves along the sign of rest * normal and has a `room` until it meets the
    box. Linf: all entries move alike, min(t, room). L2: in proportion to the normal,
    min(t |normal|, room). Both cross the hyperplane at a level t that follows from the
    sorted levels at which entries meet the box. L1: the entries of the largest |normal|
    are used up one after the other.

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
    """A product in which infinity times zero is zero: an entry without slope never moves."""
    return product.nan_to_num(nan=0.0, posinf=float("inf"))


def _level(gain: Tensor, meets: Tensor, rest: Rows) -> Tensor:
    """t with sum over entries of gain * min(t, meets) = rest, [n, 1]; infinite if there is none."""
    meets, order = torch.where(gain > 0, meets, 0.0).sort(dim=1)
    gain = gain.gather(1, order)
    # Sums from both sides, because the difference of two sums would cancel.
    used = (gain * meets).cumsum(dim=1)
    still = gain.flip(1).cumsum(dim=1).flip(1)
    before = used - gain * meets
    reached = before + still * meets
    place = (reached < rest[:, None]).sum(dim=1, keepdim=True)
    inside = place.clamp(max=gain.shape[1] - 1)
    level = (rest[:, None] - before.gather(1, inside)) / still.gather(1, inside)
    return torch.where(place < gain.shape[1], level.nan_to_num(nan=0.0), float("inf"))


def _one_by_one(weight: Tensor, room: Tensor, rest: Rows) -> Tensor:
    """Moves, [n, d]: the heaviest entries to the end of their room until `rest` is reached."""
    weight, order = weight.sort(dim=1, descending=True, stable=True)
    gain = weight * room.gather(1, order)
    missing = rest[:, None] - (gain.cumsum(dim=1) - gain)
    moved = (missing / weight).nan_to_num(nan=0.0, posinf=float("inf"), neginf=0.0).clamp_(min=0)
    moved = torch.minimum(moved, room.gather(1, order))
    return torch.zeros_like(moved).scatter_(1, order, torch.where(weight > 0, moved, 0.0))
