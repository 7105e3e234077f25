"""Which of the points seen on the way is returned."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch

from notbugs.core import rows
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine.norms import AbstractSize


class Kept(NamedTuple):
    """The point held for each row: images, their objective value and their success."""

    x: Images
    value: Rows
    success: Mask


class AbstractKeep(ABC):
    """Decides, row by row, whether a new point replaces the one that is held."""

    confirms: ClassVar[bool] = False
    """Whether each kept success is confirmed by the exact objective, not only the last."""

    @abstractmethod
    def better(self, new: Kept, held: Kept, center: Images) -> Mask:
        """True where `new` replaces `held`."""

    def update(self, new: Kept, held: Kept | None, center: Images) -> Kept:
        """The held points after seeing `new`; the first point is always held."""
        if held is None:
            return new
        better = self.better(new, held, center)
        return Kept(
            rows.where(better, new.x, held.x),
            torch.where(better, new.value, held.value),
            torch.where(better, new.success, held.success),
        )

    def best_of(self, seen: Kept, held: Kept | None, center: Images) -> Kept:
        """The held points after seeing b points of each row in order: `seen` is [b, n, ...]."""
        for x, value, success in zip(*seen, strict=True):
            held = self.update(Kept(x, value, success), held, center)
        assert held is not None
        return held


@final
@dataclass(frozen=True)
class LowestValue(AbstractKeep):
    """The point of the lowest objective value."""

    def better(self, new: Kept, held: Kept, center: Images) -> Mask:
        # Neither not lower nor NaN: so any number is better than a held NaN.
        return ~((new.value >= held.value) | new.value.isnan())


@final
@dataclass(frozen=True)
class SuccessThenLowest(AbstractKeep):
    """A successful point before any other, and of two alike the one of the lower value."""

    def better(self, new: Kept, held: Kept, center: Images) -> Mask:
        lower = LowestValue().better(new, held, center)
        return torch.where(new.success == held.success, lower, new.success)

    def best_of(self, seen: Kept, held: Kept | None, center: Images) -> Kept:
        # The first of the lowest successes, or of all its points where none succeeds.
        x, value, success = seen
        rank = value.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))
        allowed = success | ~success.any(dim=0)
        rank = torch.where(allowed, rank, float("inf"))
        order = torch.arange(len(x), device=x.device)[:, None]
        first = torch.where(allowed & (rank == rank.amin(dim=0)), order, len(x)).amin(dim=0)
        row = torch.arange(x.shape[1], device=x.device)
        return self.update(
            Kept(x[first, row], value[first, row], success[first, row]), held, center
        )


@final
@dataclass(frozen=True)
class SmallestSuccess(AbstractKeep):
    """The success nearest to the centre; before the first, the point of the lowest value.

    With it an `exact` objective is asked at every point that would be kept as a success,
    because minimum-norm methods walk along the boundary, where rounding decides.
    """

    size: AbstractSize
    confirms: ClassVar[bool] = True

    def better(self, new: Kept, held: Kept, center: Images) -> Mask:
        nearer = self.size.size(new.x - center) < self.size.size(held.x - center)
        lower = LowestValue().better(new, held, center)
        both = new.success & held.success
        return torch.where(both, nearer, new.success | (lower & ~held.success))


@final
@dataclass(frozen=True)
class Last(AbstractKeep):
    """The newest point."""

    def better(self, new: Kept, held: Kept, center: Images) -> Mask:
        return torch.ones_like(new.success)

    def update(self, new: Kept, held: Kept | None, center: Images) -> Kept:
        return new
