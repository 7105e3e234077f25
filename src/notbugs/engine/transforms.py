"""Random transformations of images, with one draw per row.

Each is a frozen recipe that is called with images [n, c, h, w] and one key per row. Pixels
from outside the image have the value `fill`. All are differentiable and deterministic on a
GPU, as are their gradients (so none uses grid_sample).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Rows

Transform: TypeAlias = Callable[[Images, Keys], Images]
"""(images [n, c, h, w], one key per row) -> transformed images, differentiable."""


@final
@dataclass(frozen=True)
class Pad:
    """Adds `pixels` of the value `fill` on every side; the image grows."""

    pixels: int
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_count(self.pixels, "pixels", 0)
        _check_fill(self.fill)

    def __call__(self, x: Images, keys: Keys) -> Float[Tensor, "n ..."]:
        """Images [n, c, h + 2 pixels, w + 2 pixels]; no randomness is used."""
        return F.pad(x, (self.pixels,) * 4, value=self.fill)


@final
@dataclass(frozen=True)
class Jitter:
    """Shifts each image by whole pixels, uniform from -`pixels` to `pixels` in both directions."""

    pixels: int
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_count(self.pixels, "pixels", 0)
        _check_fill(self.fill)

    def __call__(self, x: Images, keys: Keys) -> Images:
        """Images of the same shape, each moved by its own draw."""
        down, across = (
            random.integers(random.fold(keys, side), 2 * self.pixels + 1) - self.pixels
            for side in ("down", "across")
        )
        down, across = _axis(x.shape[2], x) - down[:, None], _axis(x.shape[3], x) - across[:, None]
        return _resampled(x, down, across, self.fill)


@final
@dataclass(frozen=True)
class Scale:
    """Shrinks or enlarges each image about its middle, by a factor uniform in [low, high].

    The size stays the same. Linear interpolation without blurring first, so use factors
    near 1.
    """

    low: float = 0.9
    high: float = 1.1
    fill: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise bad_value("low", "be above 0 and at most `high`", f"{self.low} of {self.high}")
        _check_fill(self.fill)

    def __call__(self, x: Images, keys: Keys) -> Images:
        """Images of the same shape, each scaled by its own draw."""
        share = random.scalar(random.fold(keys, "scale"), torch.float64)
        factor = (self.low + (self.high - self.low) * share)[:, None]
        down, across = (_centred(x.shape[i], x) / factor + (x.shape[i] - 1) / 2 for i in (2, 3))
        return _resampled(x, down, across, self.fill)


@final
@dataclass(frozen=True)
class Rotate:
    """Rotates each image about its middle, by an angle uniform in [-`degrees`, `degrees`].

    By three shears with linear interpolation. Pixels that leave the frame are lost (use a
    `Pad` before).

    **Source**: Paeth 1986 ("A Fast Algorithm for General Raster Rotation").
    """

    degrees: float = 10.0
    fill: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 90:
            raise bad_value("degrees", "lie in [0, 90]", self.degrees)
        _check_fill(self.fill)

    def __call__(self, x: Images, keys: Keys) -> Images:
        """Images of the same shape, each rotated by its own draw."""
        share = random.scalar(random.fold(keys, "angle"), torch.float64)
        return rotated(x, math.radians(self.degrees) * (2 * share - 1), self.fill)


@final
@dataclass(frozen=True)
class Chain:
    """Several transformations, one after the other, then a centre crop to the first size.

    So a `Pad` in front keeps pixels that would otherwise leave the frame. Images that became
    smaller stay so.

    >>> from notbugs.core.random import row_keys
    >>> moved = Chain((Pad(2), Jitter(2), Rotate(5)))(torch.rand(2, 3, 9, 8), row_keys(2, "moved"))
    >>> tuple(moved.shape)
    (2, 3, 9, 8)
    """

    parts: tuple[Transform, ...]

    def __call__(self, x: Images, keys: Keys) -> Float[Tensor, "n ..."]:
        """Images of at most the same size; each part has its own keys."""
        moved = x
        for i, part in enumerate(self.parts):
            moved = part(moved, random.fold(keys, "part", i))
        down, across = (max(0, moved.shape[i] - x.shape[i]) // 2 for i in (2, 3))
        return moved[:, :, down : down + x.shape[2], across : across + x.shape[3]]


def robust_view(side: int = 224, fill: float = 0.5) -> Chain:
    """Pad, jitter, scale, rotate and jitter again, in the amounts of Olah et al. for 224 pixels.

    - `side`: of the images, in pixels; amounts in pixels shrink or grow in proportion
    - `fill`: the value that surrounds them, in [0, 1]

    **Source**: Olah et al. 2017 ("Feature Visualization", Distill), "The Enemy of Feature
    Visualization": jitter 8 and 4 pixels, scale 0.9-1.1, rotation by up to 10 degrees.
    **Differs from the paper**: amounts follow the side; the factor and the angle are drawn
    from intervals, not lists; the frame keeps its size.

    **Raises** ValueError for a side below 1 and a fill outside [0, 1].
    """
    check_count(side, "side")
    pad, far, near = (max(1, round(pixels * side / 224)) for pixels in (12, 8, 4))
    parts = (Pad(pad, fill), Jitter(far, fill), Scale(0.9, 1.1, fill), Rotate(10.0, fill))
    return Chain((*parts, Jitter(near, fill)))


def rotated(x: Images, angle: Rows, fill: float) -> Images:
    """Each image rotated about its middle by its `angle` in radians, within [-pi/2, pi/2].

    Positive: what was to the right of the middle comes below it.
    """
    angle = angle.to(torch.float64)
    level, steep = -torch.tan(angle / 2), torch.sin(angle)
    d = x - fill  # outside is 0 then
    d = _sheared(d, level)
    d = _sheared(d.mT, steep).mT
    return _sheared(d, level) + fill


def _sheared(d: Tensor, slope: Rows) -> Tensor:
    """Row i of each image moved to the right by slope * (i - middle) pixels, zero outside.

    The gathers are permutations along the row, so their gradients need no sums.
    """
    h, w = d.shape[2:]
    shift = slope[:, None] * _centred(h, d)
    floor = shift.floor()
    fraction = (shift - floor).to(d.dtype)[:, None, :, None]
    lower = _shifted(d, floor.to(torch.int64), w)
    return lower * (1 - fraction) + _shifted(d, floor.to(torch.int64) + 1, w) * fraction


def _shifted(d: Tensor, by: Tensor, w: int) -> Tensor:
    source = torch.arange(w, device=d.device) - by[:, :, None]
    inside = ((source >= 0) & (source < w))[:, None]
    index = source.remainder(w)[:, None].expand(d.shape)
    return d.gather(3, index) * inside


def _resampled(x: Images, down: Tensor, across: Tensor, fill: float) -> Images:
    """The images interpolated at positions `down` [n, h] and `across` [n, w], `fill` outside."""
    d = x - fill
    return fill + torch.einsum(
        "nij,ncjk,nlk->ncil", _interpolation(down, d), d, _interpolation(across, d)
    )


def _interpolation(positions: Tensor, like: Tensor) -> Tensor:
    """Matrices [n, size, size] that interpolate linearly at positions [n, size]."""
    pixel = torch.arange(positions.shape[1], dtype=positions.dtype, device=positions.device)
    return (1 - (positions[:, :, None] - pixel).abs()).clamp(min=0).to(like.dtype)


def _axis(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=torch.float64, device=like.device)


def _centred(size: int, like: Tensor) -> Tensor:
    return _axis(size, like) - (size - 1) / 2


def _check_fill(fill: float) -> None:
    if not 0 <= fill <= 1:
        raise bad_value("fill", "lie in [0, 1]", fill)
