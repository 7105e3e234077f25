"""Fully connected nets, as in the first paper on adversarial examples."""

import math

from torch import nn

from notbugs.core.errors import bad_value, unknown_name
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def fc(
    shape: tuple[int, int, int],
    classes: int,
    *,
    hidden: str = "100-100",
    activation: str = "relu",
    dropout: float = 0.0,
) -> Body:
    """Hidden linear layers of the given widths; the last is the embedding.

    "100-100", "200-200" and "123-456" are the nets of Szegedy et al. 2013 (arXiv 1312.6199),
    table 1, and "400" with "sigmoid" the classifier on an autoencoder's features there
    (`pretrained`). The paper does not name the activation of the others. Its weight decay is
    `notbugs.training.L2Decay`.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        hidden: widths of the hidden layers, joined by "-".
        activation: "relu", "sigmoid" or "tanh".
        dropout: share of each hidden layer's outputs that training drops, in [0, 1).
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if not 0 <= dropout < 1:
        raise bad_value("dropout", "lie in [0, 1)", dropout)
    parts = str(hidden).split("-")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise bad_value("hidden", 'be widths joined by "-", such as "100-100"', hidden)
    widths = [int(part) for part in parts]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in zip([math.prod(shape), *widths], widths, strict=False):
        layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return initialised(nn.Sequential(*layers), nn.Linear(widths[-1], classes))
