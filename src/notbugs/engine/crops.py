"""Random views: crops resized to a model's input, and noise."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Keys
from notbugs.engine.transforms import Chain


@final
@dataclass(frozen=True)
class RandomCrop:
    """Cuts a part out of each image, at a uniform place, and resamples it to one size.

    The part's sides are a share of the image's, uniform in [`low`, `high`]; linear interpolation
    where it grows, triangle-weighted means where it shrinks. With shares of 1 it is the whole.

    - `size` (height, width) of what comes out; None: that of the image

    **Raises** ValueError for shares outside (0, 1] and sizes below 1.
    """

    low: float
    high: float
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise bad_value(
                "low", "be above 0 and at most `high`, which is at most 1", (self.low, self.high)
            )
        for side in self.size or ():
            check_count(side, "size")

    def __call__(self, x: Images, keys: Keys) -> Float[Tensor, "n ..."]:
        """Images [n, c, *size], each cut by its own draw."""
        h, w = x.shape[2:]
        size = self.size or (h, w)
        if self.low == 1 and size == (h, w):
            return x
        part, down, across = random.uniform(random.fold(keys, "crop"), (3,), torch.float64).T
        part = self.low + (self.high - self.low) * part
        rows, columns = (
            _windows(part * side, start * (1 - part) * side, side, out, x)
            for start, side, out in ((down, h, size[0]), (across, w, size[1]))
        )
        return torch.einsum("nij,ncjk,nlk->ncil", rows, x, columns)


@final
@dataclass(frozen=True)
class UniformNoise:
    """Adds to each pixel a draw uniform in [-`scale`, `scale`], which may leave [0, 1]."""

    scale: float

    def __post_init__(self) -> None:
        check_positive(self.scale, "scale")

    def __call__(self, x: Images, keys: Keys) -> Images:
        """Images of the same shape."""
        draw = random.uniform(random.fold(keys, "noise"), x.shape[1:], torch.float32)
        return x + self.scale * (2 * draw - 1).to(x.dtype)


def cropped_view(
    size: tuple[int, int] | None = None, low: float = 0.08, high: float = 0.42, noise: float = 0.1
) -> Chain:
    """Noise, then a random crop resized to `size`: the transformations of MaCo.

    - `size` (height, width) of the model's input; None: that of the image
    - `low`, `high`: shares of the sides; `noise`: half the width of the uniform noise

    **Source**: Fel et al. 2023 (arXiv 2306.06805), section 5: noise U(-0.1, 0.1), crops of a share
    N(0.25, 0.1).
    **Differs from the paper**: shares are uniform, of the same mean and variance by default, and
    so are their places.

    **Raises** ValueError for shares outside (0, 1], sizes below 1 and noise not above 0.
    """
    return Chain((UniformNoise(noise), RandomCrop(low, high, size)))


def _windows(length: Tensor, start: Tensor, side: int, out: int, like: Tensor) -> Tensor:
    """Matrices [n, out, side] that resample the part [start, start + length) of an axis."""
    pixel = torch.arange(side, dtype=torch.float64, device=like.device)
    scale = (length / out)[:, None]
    middle = start[:, None] + (torch.arange(out, device=like.device) + 0.5) * scale - 0.5
    middle = middle.clamp(0, side - 1)
    width = scale.clamp(min=1)[:, :, None]
    weight = (1 - (middle[:, :, None] - pixel).abs() / width).clamp(min=0)
    return (weight / weight.sum(dim=2, keepdim=True)).to(like.dtype)
