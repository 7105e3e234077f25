"""Differentiable random transformations of images, with one draw per row."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Mask, Rows


@final
@dataclass(frozen=True)
class Resized:
    """Shrinks each image to a random size and pads it with black, at a random place.

    A row is transformed with `probability`; its side is then a whole number of pixels,
    uniform from `smallest` (a share of the original) up to the original.

    **Source**: Xie et al. 2018 (arXiv 1803.06978), section 3.2.
    """

    probability: float = 0.5
    smallest: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise bad_value("probability", "lie in [0, 1]", self.probability)
        if not 0 < self.smallest <= 1:
            raise bad_value("smallest", "lie in (0, 1]", self.smallest, "1 never shrinks.")

    def __call__(self, x: Images, keys: Keys) -> Images:
        """The images [n, c, h, w] shrunk and padded, with one key per row."""
        if not self.probability:
            return x
        unchanged = random.scalar(random.fold(keys, "whether"), torch.float64) >= self.probability
        share = random.scalar(random.fold(keys, "share"), torch.float64)
        down = self._axis(x.shape[2], share, unchanged, random.fold(keys, "down"), x)
        across = self._axis(x.shape[3], share, unchanged, random.fold(keys, "across"), x)
        return torch.einsum("nij,ncjk,nlk->ncil", down, x, across)

    def _axis(self, size: int, share: Rows, unchanged: Mask, keys: Keys, x: Images) -> Tensor:
        least = math.ceil(self.smallest * size)
        side = least + (share * (size + 1 - least)).floor()
        side = torch.where(unchanged, size, side)
        offset = (random.scalar(keys, torch.float64) * (size + 1 - side)).floor()
        return _shrinking(size, side, offset).to(x.dtype)


def _shrinking(size: int, side: Rows, offset: Rows) -> Tensor:
    """Matrices [n, size, size] that shrink an axis to `side` pixels, starting at `offset`.

    Matrix products, because the gradient of grid_sample is not deterministic on a GPU.
    """
    pixel = torch.arange(size, dtype=side.dtype, device=side.device)
    position = pixel - offset[:, None]  # in the shrunk image
    source = ((position + 0.5) * (size / side)[:, None] - 0.5).clamp(0, size - 1)
    weight = (1 - (source[:, :, None] - pixel).abs()).clamp(min=0)
    inside = (position >= 0) & (position < side[:, None])
    return weight * inside[:, :, None]


@final
@dataclass(frozen=True)
class Blurred:
    """Leaves the image unchanged and blurs its gradient by a Gaussian; then applies `before`.

    The kernel has 2 `radius` + 1 pixels per side and a standard deviation of
    radius / sqrt(3).

    **Source**: Dong et al. 2019 (arXiv 1904.02884), section 3.2.
    """

    radius: int = 7
    before: Resized = Resized(probability=0.0)

    def __post_init__(self) -> None:
        check_count(self.radius, "radius")

    def __call__(self, x: Images, keys: Keys) -> Images:
        """The images [n, c, h, w] through `before`, with a blurred gradient."""
        blurred = self.blur(x)
        # The kernel is symmetric, so the gradient of the blur is the blur of the gradient.
        return self.before(blurred + (x - blurred).detach(), keys)

    def blur(self, x: Images) -> Images:
        """The images convolved with the kernel, channel by channel, zero outside."""
        return gaussian_blur(x, self.radius / 3**0.5, self.radius)


@final
@dataclass(frozen=True)
class Imaged:
    """What a print and a camera do to an image, roughly: blur, contrast, brightness, noise.

    Each row is mixed with its Gaussian blur, in a share of up to 1; its contrast is multiplied by a
    factor, brightness added, and noise.

    - `blur`: the Gaussian's standard deviation in pixels; 0: none
    - `contrast`, `brightness`: largest deviations from 1 and 0, uniform; `noise`: a standard
      deviation; all in pixel units of [0, 1]
    """

    blur: float = 1.0
    contrast: float = 0.3
    brightness: float = 0.1
    noise: float = 0.02

    def __post_init__(self) -> None:
        for name in ("blur", "contrast", "brightness", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise bad_value(name, "be a finite number of at least 0", getattr(self, name))

    def __call__(self, x: Images, keys: Keys) -> Images:
        """The images [n, c, h, w] as seen, one draw per row."""
        share, times, more = (
            random.scalar(random.fold(keys, name), x.dtype)[:, None, None, None]
            for name in ("blur", "contrast", "brightness")
        )
        if self.blur:
            radius = max(1, math.ceil(3 * self.blur))
            x = x + share * (gaussian_blur(x, self.blur, radius) - x)
        x = x * (1 + self.contrast * (2 * times - 1)) + self.brightness * (2 * more - 1)
        grain = random.normal(random.fold(keys, "grain"), x.shape[1:], x.dtype)
        return (x + self.noise * grain).clamp(0, 1)


def gaussian_blur(x: Images, sigma: float, radius: int) -> Images:
    """The images under a Gaussian of 2 `radius` + 1 pixels a side, zero outside."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=x.device)
    kernel = torch.exp(-0.5 * (offset / sigma).square())
    kernel = (kernel / kernel.sum()).to(x.dtype).expand(x.shape[1], 1, 1, -1)
    blurred = F.conv2d(x, kernel, padding=(0, radius), groups=x.shape[1])
    return F.conv2d(blurred, kernel.mT, padding=(radius, 0), groups=x.shape[1])
