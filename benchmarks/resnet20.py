"""ResNet-20 for CIFAR: a user's own network of about 0.28 M parameters, with batch norms."""

import torch
from torch import Tensor, nn

from notbugs.models import Classifier, wrap

WIDTHS, BLOCKS = (16, 32, 64), 3
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
"""CIFAR-10's, by channel."""


class Block(nn.Module):
    """ReLU(two 3x3 convolutions + shortcut)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *convolution(before, after, stride), nn.ReLU(), *convolution(after, after)
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def convolution(before: int, after: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """3x3, and a batch norm."""
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)


def resnet20(shape: tuple[int, int, int], classes: int, seed: int) -> Classifier:
    """He, Zhang, Ren & Sun 2015 (arXiv 1512.03385), section 4.2 with n = 3; 1x1 shortcuts."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [*convolution(shape[0], WIDTHS[0]), nn.ReLU()]
    before = WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for index in range(BLOCKS):
            layers.append(Block(before, width, 2 if stage > 0 and index == 0 else 1))
            before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)]
    embedding = str(len(layers) - 2)
    mean, std = (MEAN, STD) if shape[0] == 3 else ((0.5,), (0.25,))
    body = nn.Sequential(*layers).eval()
    return wrap(body, shape=shape, classes=classes, embedding=embedding, mean=mean, std=std)
