"""The embedded default for small images: a few plain convolutions, cheap on a CPU."""

from torch import nn

from notbugs.core.errors import check_count, unknown_name
from notbugs.models.blurred import Blurred
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

DOWN = ("stride", "even", "blur")


def cnn(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 32,
    hidden: int = 64,
    down: str = "stride",
) -> Body:
    """A convolutional network without norms or dropout: deterministic, the same in both modes.

    A 3x3 convolution at full size, then convolutions of stride 2 and twice the width until
    the image is at most 7x7 (8x8: one; 28x28: two; 32x32: three), then one to `hidden`
    channels; ReLU after each. Their average over positions is the embedding. Without averaging,
    an embedding can encode a small image completely, and a set made by matching it is a copy
    of its source.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first convolution; the strided ones have twice as many.
        hidden: width of the embedding.
        down: how maps are halved: "stride": 3x3 convolutions of stride 2, which read some
            positions more often than others (gradients show a checkerboard); "even": 4x4 ones,
            which do not; "blur": 3x3 ones of stride 1, then every second value of a blurred map,
            which avoids aliasing.

    **Source** of "blur": Zhang 2019, "Making Convolutional Networks Shift-Invariant Again"
    (arXiv 1904.11486).
    """
    check_count(width, "width")
    check_count(hidden, "hidden")
    if down not in DOWN:
        raise unknown_name("down", down, DOWN)
    channels, side = shape[0], max(shape[1:])
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    before = width
    while side > 7:
        layers += _halved(before, 2 * width, down)
        before, side = 2 * width, -(-side // 2)
    layers += [nn.Conv2d(before, hidden, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(hidden, classes))


def _halved(before: int, after: int, down: str) -> list[nn.Module]:
    if down == "stride":
        return [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    if down == "even":
        return [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), Blurred()]
