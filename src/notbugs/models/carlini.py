"""The two nets of Carlini and Wagner, for grey images and for colour."""

from torch import nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

SMALLEST = 16
"""Side from which the convolutions have no padding, as in the paper."""


def carlini(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 32,
    hidden: int = 200,
    dropout: float = 0.5,
) -> Body:
    """Two pairs of 3x3 convolutions, each followed by a pool of 2; two dense layers.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), table I: width 32 and hidden 200 for
    MNIST, 64 and 256 for CIFAR-10, valid convolutions, dropout 0.5 after the first dense
    layer; SGD 0.01, momentum 0.9, batch 128, 50 epochs (table II). The initial weights are
    He's; the paper names none. Images of less than 16 pixels a side get padding.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first pair; the second has twice as many.
        hidden: units of each dense layer; the second is the embedding.
        dropout: share of the first dense layer left out in training.
    """
    check_count(width, "width")
    check_count(hidden, "hidden")
    channels, height, wide = shape
    padding = 0 if min(height, wide) >= SMALLEST else 1
    layers: list[nn.Module] = []
    for out in (width, 2 * width):
        for before in (channels, out):
            layers += [nn.Conv2d(before, out, 3, padding=padding), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = out
        height, wide = ((side - 4 * (1 - padding)) // 2 for side in (height, wide))
    layers += [nn.Flatten(), nn.Linear(channels * height * wide, hidden), nn.ReLU()]
    layers += [nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU()]
    return initialised(nn.Sequential(*layers), nn.Linear(hidden, classes))
