"""Gaussian windows, and images blurred by one."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@cache
def gaussian(window: int, sigma: float) -> Tensor:
    """The weights along one side of a window, an odd number of pixels, which sum to 1, float64."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def blurred_images(x: Tensor, sigma: float) -> Tensor:
    """Images [n, c, h, w] under a Gaussian of `sigma` pixels, their edges continued."""
    reach = max(1, round(3 * sigma))
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    return blurred(padded, gaussian(2 * reach + 1, sigma).to(x))


def blurred(maps: Tensor, kernel: Tensor) -> Tensor:
    """Weighted means over all windows within the images [m, k, h, w]: first down, then across."""
    k = maps.shape[1]
    down = kernel.reshape(1, 1, -1, 1).expand(k, 1, -1, 1)
    across = kernel.reshape(1, 1, 1, -1).expand(k, 1, 1, -1)
    return F.conv2d(F.conv2d(maps, down, groups=k), across, groups=k)
