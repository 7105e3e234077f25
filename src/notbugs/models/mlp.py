"""The multilayer perceptron."""

import math

from torch import nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


def mlp(shape: tuple[int, int, int], classes: int, *, width: int = 256, depth: int = 2) -> Body:
    """Hidden linear layers with ReLU, all of one width; the last is the embedding.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: units of each hidden layer, and of the embedding.
        depth: number of hidden layers.
    """
    check_count(width, "width")
    check_count(depth, "depth")
    layers: list[nn.Module] = [nn.Flatten()]
    for before in [math.prod(shape)] + [width] * (depth - 1):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return initialised(nn.Sequential(*layers), nn.Linear(width, classes))
