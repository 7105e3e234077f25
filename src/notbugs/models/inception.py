"""A small Inception network for small images."""

import torch
from torch import Tensor, nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

# The paper's channels: a pair of numbers is an inception module (1x1, 3x3), a single
# number a downsampling module.
_MODULES = (
    (32, 32),
    (32, 48),
    80,
    (112, 48),
    (96, 64),
    (80, 80),
    (48, 96),
    96,
    (176, 160),
    (176, 160),
)


class _Beside(nn.Module):
    """The outputs of two branches, concatenated along the channels."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one = one
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], dim=1)


def inception(shape: tuple[int, int, int], classes: int, *, width: int = 96) -> Body:
    """Eight inception modules (1x1 beside 3x3 convolutions) and two that downsample.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first convolution; all others scale with it, and the
            embedding has 336 entries at width 96.

    **Source**: Zhang, Bengio, Hardt, Recht & Vinyals 2016, arXiv:1611.03530, appendix A,
    figure 3 (after Szegedy et al. 2014, arXiv:1409.4842).
    **Differs from the paper**: downsampling pads, and the last pooling averages all
    remaining positions (7x7 for the paper's 28x28 images), so that other sizes work too; He's
    initial weights.
    """
    check_count(width, "width")
    layers: list[nn.Module] = [_conv(shape[0], width, 3)]
    before = width
    for module in _MODULES:
        if isinstance(module, int):
            after = _scaled(module, width)
            pool = nn.MaxPool2d(3, stride=2, padding=1)
            layers.append(_Beside(_conv(before, after, 3, stride=2), pool))
            before += after
        else:
            ones, threes = (_scaled(channels, width) for channels in module)
            layers.append(_Beside(_conv(before, ones, 1), _conv(before, threes, 3)))
            before = ones + threes
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(before, classes))


def _scaled(channels: int, width: int) -> int:
    return max(1, channels * width // 96)


def _conv(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())
