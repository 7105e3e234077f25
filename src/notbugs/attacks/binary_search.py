"""The search for the smallest constant that works, each row on its own."""

from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from notbugs.core.types import Mask, Rows

UNBOUNDED = 1e10
"""The upper bound of a row for which no constant has worked yet."""


class BinarySearch(NamedTuple):
    """Per row [n]: the constant to try, one known to fail (or 0), one known to work."""

    c: Rows
    low: Rows
    high: Rows

    @classmethod
    def around(cls, first: float, like: Shaped[Tensor, "n ..."]) -> "BinarySearch":
        """One row for each row of `like`, about to try `first`."""
        c = torch.full(like.shape[:1], first, dtype=torch.float32, device=like.device)
        return cls(c, torch.zeros_like(c), torch.full_like(c, UNBOUNDED))

    def narrowed(self, worked: Mask, growth: float = 10.0) -> "BinarySearch":
        """After trying `c`: times `growth` until something has worked, then the middle."""
        high = torch.where(worked, torch.minimum(self.high, self.c), self.high)
        low = torch.where(worked, self.low, torch.maximum(self.low, self.c))
        middle = torch.where(high < UNBOUNDED, (low + high) / 2, self.c * growth)
        return BinarySearch(middle, low, high)

    def last(self) -> "BinarySearch":
        """The search set to try the constant known to work once more, where there is one."""
        return self._replace(c=torch.where(self.high < UNBOUNDED, self.high, self.c))
