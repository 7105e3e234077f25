"""Maxout nets, dense and convolutional: each unit is the largest of a few linear ones."""

import math

import torch
from torch import Tensor, nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

SPREAD = 0.05
"""Initial weights of dense layers are uniform in [-SPREAD, SPREAD], biases 0."""


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring channels, of which there are `pieces` times as many."""

    def __init__(self, pieces: int) -> None:
        """Takes the number of pieces."""
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """[n, units * pieces, ...] -> [n, units, ...]."""
        return x.unflatten(1, (-1, self.pieces)).amax(dim=2)


def maxout(
    shape: tuple[int, int, int],
    classes: int,
    *,
    units: int = 240,
    pieces: int = 5,
    depth: int = 2,
    dropout: float = 0.5,
) -> Body:
    """Dense maxout layers with dropout; the last is the embedding.

    **Source**: Goodfellow et al. 2013 (arXiv 1302.4389), section 5.1: two layers of 240 units
    with 5 pieces, dropout 0.5, and 0.2 of the image; weights uniform in ±0.05. Goodfellow et
    al. 2014 (arXiv 1412.6572) attack it, and train 1,600 units adversarially.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        units: units of each layer.
        pieces: linear functions a unit is the largest of.
        depth: number of layers.
        dropout: share of units left out in training; 0.4 times as much of the image.
    """
    for value, name in ((units, "units"), (pieces, "pieces"), (depth, "depth")):
        check_count(value, name)
    layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(0.4 * dropout)]
    for before in [math.prod(shape)] + [units] * (depth - 1):
        layers += [nn.Linear(before, units * pieces), Maxout(pieces), nn.Dropout(dropout)]
    body = Body(nn.Sequential(*layers), nn.Linear(units, classes))
    with torch.no_grad():
        for layer in body.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.uniform_(-SPREAD, SPREAD)
                layer.bias.zero_()
    return body


def conv_maxout(
    shape: tuple[int, int, int],
    classes: int,
    *,
    units: int = 48,
    pieces: int = 2,
    hidden: int = 240,
    dropout: float = 0.5,
) -> Body:
    """Three convolutional maxout layers with pooling, then a dense one, the embedding.

    **Source**: Goodfellow et al. 2013 (arXiv 1302.4389), section 5.2-5.3: three layers and a
    dense one, with max pooling. **Differs from the paper**: 3x3 and 5x5 kernels with padding
    and pools of 2, so that small images fit; normal initial weights of variance 1 / (2 fan-in),
    as the largest of several normal numbers has a mean square of about 2 (the paper tunes the
    range of uniform ones by data set).

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        units: channels of the first layer; the later two have twice as many.
        pieces: linear functions a unit is the largest of.
        hidden: units of the dense layer.
        dropout: share left out in training.
    """
    for value, name in ((units, "units"), (pieces, "pieces"), (hidden, "hidden")):
        check_count(value, name)
    channels, side = shape[0], min(shape[1:])
    layers: list[nn.Module] = [nn.Dropout(0.4 * dropout)]
    for width, kernel in ((units, 5), (2 * units, 5), (2 * units, 3)):
        layers += [nn.Conv2d(channels, width * pieces, kernel, padding=kernel // 2), Maxout(pieces)]
        if side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(nn.Dropout(dropout))
        channels = width
    height, wide = _after(shape, layers)
    layers += [nn.Flatten(), nn.Linear(channels * height * wide, hidden * 5), Maxout(5)]
    trunk = nn.Sequential(*layers, nn.Dropout(dropout))
    body = initialised(trunk, nn.Linear(hidden, classes))
    with torch.no_grad():
        for layer in trunk.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(0.5)  # He's variance, for ReLUs, is 2 / fan-in
    return body


def _after(shape: tuple[int, int, int], layers: list[nn.Module]) -> tuple[int, int]:
    """Height and width after the pools."""
    pools = sum(isinstance(layer, nn.MaxPool2d) for layer in layers)
    return shape[1] // 2**pools, shape[2] // 2**pools
