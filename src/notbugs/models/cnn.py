"""The embedded default for small images: a few plain convolutions, cheap on a CPU."""

from torch import nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


def cnn(shape: tuple[int, int, int], classes: int, *, width: int = 32, hidden: int = 64) -> Body:
    """A convolutional network without norms or dropout: deterministic, the same in both modes.

    A 3x3 convolution at full size, then convolutions of stride 2 and twice the width until
    the image is at most 7x7 (8x8: one; 28x28: two; 32x32: three), then one to `hidden`
    channels; ReLU after each. Their average over positions is the embedding. The average
    matters: a hidden layer on all positions can hold a small image whole, and a set made by
    matching such an embedding is a copy of its source.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first convolution; the strided ones have twice as many.
        hidden: width of the embedding.
    """
    check_count(width, "width")
    check_count(hidden, "hidden")
    channels, side = shape[0], max(shape[1:])
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    before = width
    while side > 7:
        layers += [nn.Conv2d(before, 2 * width, 3, stride=2, padding=1), nn.ReLU()]
        before, side = 2 * width, -(-side // 2)
    layers += [nn.Conv2d(before, hidden, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(hidden, classes))
