"""VGG-16 with batch norms, for small images."""

from torch import nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (channels / width, convolutions)


def vgg16(shape: tuple[int, int, int], classes: int, *, width: int = 64) -> Body:
    """Thirteen 3x3 convolutions in five stages, each ended by 2x2 max pooling.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first stage; the embedding has 8 * width entries.

    **Source**: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, column D.
    **Differs from the paper**: batch norm after each convolution; one linear layer instead
    of three, and no dropout, as is usual for 32x32 images; pooling rounds sizes up, and
    the remaining positions are averaged, so that other sizes work too.
    """
    check_count(width, "width")
    layers: list[nn.Module] = []
    before = shape[0]
    for times, count in _STAGES:
        after = times * width
        for _ in range(count):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(before, classes))
