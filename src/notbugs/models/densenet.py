"""DenseNet-BC for small images."""

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


class _Dense(nn.Module):
    """`x` concatenated with the `growth` channels of its branch."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_activated(before, 4 * growth, 1), *_activated(4 * growth, growth, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], dim=1)


def densenet(
    shape: tuple[int, int, int], classes: int, *, depth: int = 40, growth: int = 12
) -> Body:
    """DenseNet-BC: three dense blocks of equal depth, with compressing transitions.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        depth: number of layers, 6 * n + 4; the paper has 100 (growth 12) and 190 (growth 40).
        growth: channels that each dense layer adds.

    Raises:
        ValueError: a depth that is not 6 * n + 4 with n at least 1.

    **Source**: Huang, Liu, van der Maaten & Weinberger 2016, arXiv:1608.06993, section 3.
    **Differs from the paper**: depth 40 by default, for speed; no dropout; pooling
    rounds sizes up.
    """
    check_count(growth, "growth")
    check_count(depth, "depth")
    units, remainder = divmod(depth - 4, 6)
    if remainder or units < 1:
        raise bad_value(
            "depth",
            "be 6 * n + 4 for some n of at least 1",
            depth,
            "Take 10, 16, 40 or 100, for example.",
        )
    channels = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)]
    for block in range(3):
        if block > 0:
            pool = nn.AvgPool2d(2, ceil_mode=True)
            layers += [*_activated(channels, channels // 2, 1), pool]
            channels //= 2
        layers += [_Dense(channels + unit * growth, growth) for unit in range(units)]
        channels += units * growth
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(channels, classes))


def _activated(before: int, after: int, size: int) -> list[nn.Module]:
    """Batch norm, ReLU, convolution, in the paper's order."""
    conv = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    return [nn.BatchNorm2d(before), nn.ReLU(), conv]
