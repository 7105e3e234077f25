"""Sizes that favour sparse perturbations: L1, a norm, and L0, a count.

The L1 projections are exact, also onto the ball within the pixel box; rescaling is not a
projection, and clamping after one does not give the nearest point.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Keys, Rows
from notbugs.engine.norms import AbstractNorm, AbstractSize


def _soft_level(magnitude: Tensor, room: Tensor, radius: Rows) -> Tensor:
    """Level t >= 0 of each row at which sum min(max(magnitude - t, 0), room) = radius, [n, 1].

    The sum is piecewise linear and decreasing in t, with kinks at magnitude - room, below
    which an entry is clamped to its room, and at magnitude, above which it is zero. Its value
    at the sorted kinks has a closed form; the level lies on the piece that crosses the
    radius. Zero if the row is inside the ball.
    """
    kinks = torch.cat([magnitude, (magnitude - room).clamp_(min=0)], dim=1)
    # As t decreases, an entry grows from its magnitude on, until it reaches its room.
    slope = torch.cat([torch.ones_like(magnitude), -torch.ones_like(magnitude)], dim=1)
    kinks, order = kinks.sort(dim=1, descending=True, stable=True)
    slope = slope.gather(1, order).cumsum(dim=1)
    increase = (kinks[:, :-1] - kinks[:, 1:]) * slope[:, :-1]
    total = torch.cat([torch.zeros_like(kinks[:, :1]), increase.cumsum(dim=1)], dim=1)
    # The last kink with a sum within the radius; the slope is known from there on.
    last = ((total <= radius[:, None]).sum(dim=1, keepdim=True) - 1).clamp_(min=0)
    remaining = radius[:, None] - total.gather(1, last)
    level = kinks.gather(1, last) - remaining / slope.gather(1, last).clamp_(min=1)
    return level.clamp_(min=0)


@final
@dataclass(frozen=True)
class L1(AbstractNorm):
    """The sum of absolute changes over all channel values."""

    name: ClassVar[str] = "l1"

    def size(self, d: Images) -> Rows:
        return rows.flatten(at_least_float32(d)).abs().sum(dim=1)

    def dual(self, g: Images) -> Rows:
        return rows.flatten(at_least_float32(g)).abs().amax(dim=1)

    def steepest(self, g: Images) -> Images:
        """The whole step on the largest entry (the first of equals)."""
        flat = rows.flatten(at_least_float32(g))
        largest = flat.abs().argmax(dim=1, keepdim=True)
        step = torch.zeros_like(flat).scatter_(1, largest, flat.gather(1, largest).sign())
        return step.reshape(g.shape)

    def project(self, d: Images, radius: Rows) -> Images:
        d = at_least_float32(d)
        return self._soft_thresholded(d, torch.full_like(d, float("inf")), radius)

    def project_in_box(self, x: Images, center: Images, radius: Rows) -> Images:
        """The nearest point to `x` of the ball around `center` within [0, 1]: exact."""
        d = at_least_float32(x) - center
        room = torch.where(d > 0, 1 - center, center).to(d.dtype)
        return (center + self._soft_thresholded(d, room, radius)).clamp_(0, 1)

    def _soft_thresholded(self, d: Tensor, room: Tensor, radius: Rows) -> Tensor:
        magnitude, limit = rows.flatten(d).abs(), rows.flatten(room)
        # At most the entry's magnitude: an infinite room would give kinks of NaN.
        limit = torch.minimum(limit, magnitude)
        radius = radius.to(d.dtype)
        outside = limit.sum(dim=1) > radius
        size = limit
        if bool(outside.any()):
            level = _soft_level(magnitude, limit, radius)
            size = torch.minimum((magnitude - level).clamp_(min=0), limit)
            size = torch.where(outside[:, None], size, limit)
        return (rows.flatten(d).sign() * size).reshape(d.shape)

    def sample(self, like: Images, radius: Rows, keys: Keys) -> Images:
        like = at_least_float32(like)
        flat = rows.flatten(like)
        if not flat.shape[0]:
            return like
        # Normalised exponential draws are uniform on the simplex; with one draw more than
        # entries, the others are uniform inside the ball.
        shape = (flat.shape[1] + 1,)
        e = -torch.log1p(-random.uniform(keys, shape, torch.float64))
        share = e[:, :-1] / e.sum(dim=1, keepdim=True).clamp_(min=1e-300)
        sign = random.uniform(random.fold(keys, "sign"), flat.shape[1:], torch.float32) < 0.5
        d = torch.where(sign, -share, share) * radius.to(torch.float64)[:, None]
        return d.to(like.dtype).reshape(like.shape)


@final
@dataclass(frozen=True)
class L0(AbstractSize):
    """The number of changed pixels: a pixel counts once, however many channels change.

    Not a norm: it has no dual and no steepest direction.
    """

    name: ClassVar[str] = "l0"

    def size(self, d: Images) -> Rows:
        return (d != 0).reshape(d.shape[0], d.shape[1], -1).any(dim=1).sum(dim=1).float()

    def project(self, d: Images, radius: Rows) -> Images:
        """Keeps the floor(radius) pixels of largest L2 change (first of equals), drops the rest."""
        return self._top_pixels(at_least_float32(d), at_least_float32(d), radius)

    def project_in_box(self, x: Images, center: Images, radius: Rows) -> Images:
        """The nearest point of the ball within [0, 1]: exact.

        Changing a pixel saves its squared distance, less the part that clamping to the box
        leaves; the pixels of largest gain are changed.
        """
        x = at_least_float32(x)
        inside = x.clamp(0, 1)
        gain = ((x - center).square() - (x - inside).square()).clamp_(min=0).sqrt()
        return center + self._top_pixels(inside - center, gain, radius)

    def _top_pixels(self, d: Tensor, weight: Tensor, radius: Rows) -> Tensor:
        n, c = d.shape[:2]
        power = weight.reshape(n, c, -1).square().sum(dim=1)
        order = power.argsort(dim=1, descending=True, stable=True)
        count = radius.to(torch.int64).clamp(0, power.shape[1])
        ranks = torch.arange(power.shape[1], device=d.device).expand_as(order)
        keep = torch.zeros_like(power, dtype=torch.bool)
        keep.scatter_(1, order, ranks < count[:, None])
        return torch.where(keep[:, None], d.reshape(n, c, -1), 0).reshape(d.shape)

    def sample(self, like: Images, radius: Rows, keys: Keys) -> Images:
        """Changes in [-1, 1] at floor(radius) pixels chosen at random."""
        like = at_least_float32(like)
        u = 2 * random.uniform(keys, like.shape[1:], like.dtype) - 1
        rank = random.uniform(random.fold(keys, "where"), like.shape[2:], like.dtype)
        weight = rank[:, None].expand_as(like)
        return self._top_pixels(u, weight, radius)
