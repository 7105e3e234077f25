"""The embedded default for small images: a few plain convolutions, cheap on a CPU."""

from torch import nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


def cnn(shape: tuple[int, int, int], classes: int, *, width: int = 32, hidden: int = 128) -> Body:
    """A convolutional network without norms or dropout: deterministic, the same in both modes.

    One 3x3 convolution at full size, then at least two of twice the width, which halve the
    image until it is at most 4x4 (8x8 images: strides 1, 2, 1; 28x28: 1, 2, 2, 2), then one
    hidden linear layer, which is the embedding. ReLU after each.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first convolution; the others have twice as many.
        hidden: width of the embedding.
    """
    check_count(width, "width")
    check_count(hidden, "hidden")
    channels, height, breadth = shape
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    before, convolutions = width, 1
    while convolutions < 3 or max(height, breadth) > 4:
        stride = 2 if max(height, breadth) > 4 else 1
        layers += [nn.Conv2d(before, 2 * width, 3, stride=stride, padding=1), nn.ReLU()]
        height, breadth = -(-height // stride), -(-breadth // stride)
        before, convolutions = 2 * width, convolutions + 1
    layers += [nn.Flatten(), nn.Linear(before * height * breadth, hidden), nn.ReLU()]
    return initialised(nn.Sequential(*layers), nn.Linear(hidden, classes))
