"""A small convolutional net with batch norms."""

import torch
from torch import nn

from notbugs.models import Classifier, wrap


def norm_net(shape: tuple[int, int, int], classes: int, seed: int) -> Classifier:
    """Three 3x3 convolutions (16, 32 and 32 channels), each with a batch norm, and one layer."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after, stride in ((shape[0], 16, 2), (16, 32, 2), (32, 32, 1)):
        convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 32, classes)]
    body = nn.Sequential(*layers).eval()
    return wrap(body, shape=shape, classes=classes, embedding=str(len(layers) - 2))
