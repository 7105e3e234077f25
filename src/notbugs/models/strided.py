"""A small strided net, the cheapest built-in architecture for adversarial training."""

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

SMALLEST = 3
"""Smallest side for which the second convolution has an output."""


class Blocks(nn.Module):
    """Blocks of 2x2 pixels as channels: [n, c, 2h, 2w] -> [n, 4c, h, w].

    As torch's `PixelUnshuffle(2)`, which refuses an empty batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The rearranged images."""
        n, c, h, w = x.shape
        split = x.reshape(n, c, h // 2, 2, w // 2, 2)
        return split.permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def strided(
    shape: tuple[int, int, int], classes: int, *, width: int = 16, hidden: int = 128
) -> Body:
    """Two 4x4 convolutions of stride 2 and a dense layer, whose output is the embedding.

    The first convolution is computed as an equivalent one of 2x2 on blocks of 2x2 pixels: the
    gradient to an image of one channel, needed to craft adversarial examples, then costs half
    as much on a CPU. No pools, norms or dropout: deterministic, the same in both modes.

    **Source**: Wong & Kolter 2017 (arXiv 1711.00851), the net for MNIST: 16 and 32 channels
    and 100 hidden units there.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first convolution; the second has twice as many.
        hidden: width of the embedding.
    """
    check_count(width, "width")
    check_count(hidden, "hidden")
    channels, height, wide = shape
    if min(height, wide) < SMALLEST:
        raise bad_value("shape", f"have sides of at least {SMALLEST} pixels", shape)
    layers: list[nn.Module] = [
        nn.ZeroPad2d((1, 1 + wide % 2, 1, 1 + height % 2)),
        Blocks(),
        nn.Conv2d(4 * channels, width, 2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    ]
    with torch.no_grad():
        size = nn.Sequential(*layers)(torch.zeros(1, *shape)).shape[1]
    layers += [nn.Linear(size, hidden), nn.ReLU()]
    return initialised(nn.Sequential(*layers), nn.Linear(hidden, classes))
