"""Models whose inverses and maximisers are known."""

import torch
from torch import nn

from notbugs.core import random


class Quadratic(nn.Module):
    """Coordinate i of layer "bowls" is 1 - (x_i - peak_i)^2; `peaks` [c, h, w]."""

    def __init__(self, peaks) -> None:
        super().__init__()
        self.register_buffer("peaks", peaks)
        self.bowls = nn.Identity()

    def forward(self, x):
        return self.bowls(1 - (x - self.peaks).square()).flatten(1).sum(dim=1)


class Squares(nn.Module):
    """A 1 x 1 convolution without bias, layer "mix"; then its mean."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.mix = nn.Conv2d(weights.shape[1], weights.shape[0], 1, bias=False)
        self.mix.weight = nn.Parameter(weights[:, :, None, None])

    def forward(self, x):
        return self.mix(x).mean(dim=(2, 3))


def images(n, shape, name="images", dtype=torch.float64):
    return random.uniform(random.row_keys(n, name), shape, dtype)


def quadratic(shape=(3, 5, 4)) -> Quadratic:
    return Quadratic(0.2 + 0.6 * images(1, shape, "peaks")[0])
