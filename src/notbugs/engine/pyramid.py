"""The bumps of the Square attack for L2 and L1, and the first points of all its forms."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.errors import check_positive
from notbugs.core.types import Images, Keys
from notbugs.engine.norms import AbstractNorm, Linf
from notbugs.engine.sets import AbstractSet
from notbugs.engine.start import AbstractStart

TILES = 5
"""Bumps along each side of the first point for L2 and L1."""


@final
@dataclass(frozen=True)
class SquareStart(AbstractStart):
    """The first point of a Square attack, on the sphere of radius `eps` before clamping.

    Linf: vertical stripes one pixel wide, each center +- eps in each channel. L2 and L1: a
    grid of 5 x 5 bumps of random sign.

    **Source**: Andriushchenko et al. 2019 (arXiv 1912.00049), section 3.
    """

    norm: AbstractNorm
    eps: float

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def __call__(self, center: Images, within: AbstractSet, keys: Keys) -> Images:
        keys = random.fold(keys.to(center.device), "start")
        c, w = center.shape[1], center.shape[3]
        if isinstance(self.norm, Linf):
            stripes = random.uniform(keys, (c, 1, w)) < 0.5
            return center + torch.where(stripes, -self.eps, self.eps).to(center.dtype)
        delta = _grid(center, keys)
        return center + delta * rows.expand(self.eps / self.norm.size(delta), delta).to(delta.dtype)


def _grid(center: Images, keys: Keys) -> Images:
    """A grid of bumps, each of one random sign for each row and channel."""
    n, c, h, w = center.shape
    high, wide = max(h // TILES, 1), max(w // TILES, 1)
    row, down = _tiles(center, h, high)
    column, across = _tiles(center, w, wide)
    bump = pyramids(high, wide, center)[row[:, None], column]
    count = int(down[-1]) + 1, int(across[-1]) + 1
    sign = torch.where(random.uniform(keys, (c, *count)) < 0.5, -1.0, 1.0).to(center.dtype)
    return bump * sign[:, :, down][:, :, :, across].reshape(n, c, h, w)


def _tiles(like: Tensor, length: int, side: int) -> tuple[Tensor, Tensor]:
    """(offset within its tile, number of its tile) of each of `length` positions."""
    index = torch.arange(length, device=like.device)
    return index % side, index // side


def pyramids(high: int, wide: int, like: Tensor) -> Tensor:
    """Two adjacent pyramids, one positive and one negative, [high + 1, wide + 1], padded with zero.

    A pyramid's height at a distance of k steps (rows or columns, whichever are more) from
    its centre is the sum of 1 / i^2 for i from k + 1.
    """
    half = high // 2
    upper, lower = (_pyramid(k, wide, like) for k in (half, high - half))
    table = torch.cat([upper, -lower], dim=0)
    return torch.nn.functional.pad(table, (0, 1, 0, 1))


def _pyramid(high: int, wide: int, like: Tensor) -> Tensor:
    def from_center(length: int) -> Tensor:
        return (torch.arange(length, device=like.device) - length // 2).abs()

    count = max(high, wide) // 2 + 1
    layer = 1 / torch.arange(1, count + 1, device=like.device, dtype=like.dtype).square()
    height = layer.flip(0).cumsum(0).flip(0)
    steps = torch.maximum(from_center(high)[:, None], from_center(wide)).clamp(max=count - 1)
    table = height[steps]
    # Both halves of a bump have the same L2 norm, whatever their sizes.
    return table / torch.linalg.vector_norm(table).clamp(min=1e-12)


def placed(table: Tensor, row: Tensor, column: Tensor, transposed: Tensor) -> Images:
    """A square `table` at each row's position, transposed where `transposed`: [n, 1, h, w].

    `row` [n, h] and `column` [n, w] are offsets into the table; it is zero outside.
    """
    side = table.shape[0] - 1
    row, column = (torch.where((i >= 0) & (i < side), i, side) for i in (row, column))
    by_row, by_column = torch.where(transposed, 1, side + 1), torch.where(transposed, side + 1, 1)
    index = (row * by_row[:, None])[:, :, None] + (column * by_column[:, None])[:, None, :]
    return table.flatten()[index][:, None]


def mass(delta: Images, norm: AbstractNorm) -> Tensor:
    """Each entry's term in the norm: |d| for L1, d^2 for L2."""
    return delta.abs() if norm.name == "l1" else delta.square()


def of_norm(total: Tensor, norm: AbstractNorm) -> Tensor:
    """The norm of entries whose `mass` sums to `total`."""
    return total if norm.name == "l1" else total.sqrt()
