"""The small convolutional net on which robust training on MNIST is usually shown."""

import torch
from torch import nn

from notbugs.models import Classifier, wrap


def small_cnn(shape: tuple[int, int, int], classes: int, seed: int) -> Classifier:
    """Two 4x4 convolutions of stride 2 (16, 32 channels), and 100 hidden units.

    Wong & Kolter 2017 (arXiv 1711.00851); Wong et al. 2020 (arXiv 2001.03994) train it on
    MNIST adversarially. torch's own initial weights.
    """
    torch.manual_seed(seed)
    channels, height, width = shape
    left = 32 * (height // 4) * (width // 4)
    body = nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(left, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
    return wrap(body.eval(), shape=shape, classes=classes, embedding="6")
