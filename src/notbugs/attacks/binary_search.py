"""Binary search for the smallest constant that succeeds, for each row separately."""

from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from notbugs.core.types import Mask, Rows

LARGEST = 1e10
"""The largest constant that is tried."""


class BinarySearch(NamedTuple):
    """Per row [n]: the constant to try, the largest failed (or 0), the smallest successful (or
    infinity)."""

    c: Rows
    low: Rows
    high: Rows

    @classmethod
    def around(cls, first: float, like: Shaped[Tensor, "n ..."]) -> "BinarySearch":
        """The search before its first step, which tries `first`, with the rows of `like`."""
        c = torch.full(like.shape[:1], first, dtype=torch.float32, device=like.device)
        return cls(c, torch.zeros_like(c), torch.full_like(c, inf))

    def narrowed(self, success: Mask, growth: float = 10.0) -> "BinarySearch":
        """The next step: `growth` times `c` until one has succeeded, then the middle."""
        high = torch.where(success, torch.minimum(self.high, self.c), self.high)
        low = torch.where(success, self.low, torch.maximum(self.low, self.c))
        middle = torch.where(high < inf, (low + high) / 2, (self.c * growth).clamp(max=LARGEST))
        return BinarySearch(middle, low, high)

    def last(self) -> "BinarySearch":
        """The search with the smallest successful constant to be tried again, if there is one."""
        return self._replace(c=torch.where(self.high < inf, self.high, self.c))
