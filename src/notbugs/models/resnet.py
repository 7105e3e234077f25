"""Residual networks for small images."""

from collections.abc import Sequence

from torch import Tensor, nn

from notbugs.core.errors import check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


class _Residual(nn.Module):
    """ReLU of `branch(x) + shortcut(x)`."""

    def __init__(self, branch: nn.Module, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else _conv(before, after, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


def resnet8(shape: tuple[int, int, int], classes: int, *, width: int = 16) -> Body:
    """The smallest of the paper's CIFAR networks: three stages of one basic block.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first stage; the embedding has 4 * width entries.

    **Source**: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, section 4.2 with n = 1.
    **Differs from the paper**: 1x1 convolutions instead of zero padding in the shortcuts.
    """
    return _resnet(shape, classes, width, blocks=(1, 1, 1), bottleneck=False)


def resnet18(shape: tuple[int, int, int], classes: int, *, width: int = 64) -> Body:
    """ResNet-18 with a stem for images of about 32x32 pixels.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first stage; the embedding has 8 * width entries.

    **Source**: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, table 1.
    **Differs from the paper**: the stem is one 3x3 convolution of stride 1 without max
    pooling, as is usual for CIFAR; He's initial weights by fan-in.
    """
    return _resnet(shape, classes, width, blocks=(2, 2, 2, 2), bottleneck=False)


def resnet50(shape: tuple[int, int, int], classes: int, *, width: int = 64) -> Body:
    """ResNet-50 with a stem for images of about 32x32 pixels.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: inner channels of the first stage; the embedding has 32 * width entries.

    **Source**: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, table 1.
    **Differs from the paper**: the stem is one 3x3 convolution of stride 1 without max
    pooling; the stride sits in the 3x3 convolution of a block, not in its first 1x1.
    """
    return _resnet(shape, classes, width, blocks=(3, 4, 6, 3), bottleneck=True)


def _resnet(
    shape: tuple[int, int, int],
    classes: int,
    width: int,
    *,
    blocks: Sequence[int],
    bottleneck: bool,
) -> Body:
    check_count(width, "width")
    layers: list[nn.Module] = [_conv(shape[0], width, 3), nn.ReLU()]
    before = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        after = 4 * inner if bottleneck else inner
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            branch = (_narrow if bottleneck else _basic)(before, inner, after, stride)
            layers.append(_Residual(branch, before, after, stride))
            before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(before, classes))


def _basic(before: int, inner: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(_conv(before, inner, 3, stride), nn.ReLU(), _conv(inner, after, 3))


def _narrow(before: int, inner: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        _conv(before, inner, 1),
        nn.ReLU(),
        _conv(inner, inner, 3, stride),
        nn.ReLU(),
        _conv(inner, after, 1),
    )


def _conv(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    conv = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))
