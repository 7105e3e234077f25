"""Which of the points visited by a solve is returned."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch

from notbugs.core import rows
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine.norms import AbstractSize


class Kept(NamedTuple):
    """The kept point of each row: images, their objective value and their success."""

    x: Images
    value: Rows
    success: Mask


class AbstractKeep(ABC):
    """Decides, row by row, whether a new point replaces the kept one."""

    confirms: ClassVar[bool] = False
    """Whether each kept success is confirmed by the exact objective, not only the last."""

    @abstractmethod
    def better(self, new: Kept, kept: Kept, center: Images) -> Mask:
        """True where `new` replaces `kept`."""

    def update(self, new: Kept, kept: Kept | None, center: Images) -> Kept:
        """The kept points after `new`; the first point is always kept."""
        if kept is None:
            return new
        better = self.better(new, kept, center)
        return Kept(
            rows.where(better, new.x, kept.x),
            torch.where(better, new.value, kept.value),
            torch.where(better, new.success, kept.success),
        )

    def best_of(self, new: Kept, kept: Kept | None, center: Images) -> Kept:
        """The kept points after b new points of each row, in order: `new` is [b, n, ...]."""
        for x, value, success in zip(*new, strict=True):
            kept = self.update(Kept(x, value, success), kept, center)
        assert kept is not None
        return kept


@final
@dataclass(frozen=True)
class LowestValue(AbstractKeep):
    """The point of the lowest objective value."""

    def better(self, new: Kept, kept: Kept, center: Images) -> Mask:
        # Neither not lower nor NaN: so any number is better than a kept NaN.
        return ~((new.value >= kept.value) | new.value.isnan())


@final
@dataclass(frozen=True)
class SuccessThenLowest(AbstractKeep):
    """A success before any other point; among equals, the lower value."""

    def better(self, new: Kept, kept: Kept, center: Images) -> Mask:
        lower = LowestValue().better(new, kept, center)
        return torch.where(new.success == kept.success, lower, new.success)

    def best_of(self, new: Kept, kept: Kept | None, center: Images) -> Kept:
        # The first of the lowest successes, or of all its points where none succeeds.
        x, value, success = new
        rank = value.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))
        allowed = success | ~success.any(dim=0)
        rank = torch.where(allowed, rank, float("inf"))
        order = torch.arange(len(x), device=x.device)[:, None]
        first = torch.where(allowed & (rank == rank.amin(dim=0)), order, len(x)).amin(dim=0)
        row = torch.arange(x.shape[1], device=x.device)
        return self.update(
            Kept(x[first, row], value[first, row], success[first, row]), kept, center
        )


@final
@dataclass(frozen=True)
class SmallestSuccess(AbstractKeep):
    """The success nearest to the centre; before the first, the point of the lowest value.

    An `exact` objective confirms every point that would be kept as a success, because
    minimum-norm methods stay near the boundary, where rounding can change the prediction.
    """

    size: AbstractSize
    confirms: ClassVar[bool] = True

    def better(self, new: Kept, kept: Kept, center: Images) -> Mask:
        nearer = self.size.size(new.x - center) < self.size.size(kept.x - center)
        lower = LowestValue().better(new, kept, center)
        both = new.success & kept.success
        return torch.where(both, nearer, new.success | (lower & ~kept.success))


@final
@dataclass(frozen=True)
class Last(AbstractKeep):
    """The newest point."""

    def better(self, new: Kept, kept: Kept, center: Images) -> Mask:
        return torch.ones_like(new.success)

    def update(self, new: Kept, kept: Kept | None, center: Images) -> Kept:
        return new
