"""The linear model: logistic regression on the pixels."""

import math

from torch import nn

from notbugs.models.initial import initialised
from notbugs.models.layers import Body


def linear(shape: tuple[int, int, int], classes: int) -> Body:
    """One linear layer; its embedding is the flattened normalised image, d = c * h * w.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
    """
    return initialised(nn.Sequential(nn.Flatten()), nn.Linear(math.prod(shape), classes))
