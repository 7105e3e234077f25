"""Penalties on weights, added to the loss of every step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.models import Classifier

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class AbstractPenalty(ABC):
    """A differentiable penalty on the weights."""

    weight: float

    def __post_init__(self) -> None:
        check_positive(self.weight, "weight")

    @abstractmethod
    def __call__(self, model: Classifier) -> Tensor:
        """weight * the penalty, []."""


def layers(model: Classifier) -> list[nn.Linear | nn.Conv1d | nn.Conv2d]:
    """The linear and convolutional layers, in order."""
    matching = [layer for layer in model.body.modules() if isinstance(layer, LAYERS)]
    if not matching:
        raise bad_value("model", "have linear or convolutional layers for a penalty", "none")
    return matching


@final
@dataclass(frozen=True)
class L1Decay(AbstractPenalty):
    """weight * the sum of |w| over the weights of all layers, biases left out.

    - `only_first`: over the first layer alone

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 5: 0.0025 for the first layer
    of a maxout net was too large already, while adversarial training with eps 0.25 was not.
    """

    only_first: bool = False

    def __call__(self, model: Classifier) -> Tensor:
        decayed = layers(model)[: 1 if self.only_first else None]
        return self.weight * torch.stack([layer.weight.abs().sum() for layer in decayed]).sum()


@final
@dataclass(frozen=True)
class L2Decay(AbstractPenalty):
    """weight * the sum over layers of sum(w^2) / k, k the number of units of the layer.

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.1 (table 1): 1e-4, 1e-2 and 1
    for FC10, 1e-6 for deeper nets. k is read as the layer's outputs; the paper says "the
    number of units".
    """

    def __call__(self, model: Classifier) -> Tensor:
        parts = [w.square().sum() / len(w) for w in (layer.weight for layer in layers(model))]
        return self.weight * torch.stack(parts).sum()


@final
@dataclass(frozen=True)
class Lipschitz(AbstractPenalty):
    """weight * the sum over layers of max(0, norm - target)^2, norm the largest singular value.

    For a convolution it is that of the weights as a matrix [out, in * height * width], which
    is cheap and bounds the operator norm up to the root of the number of kernel positions. It
    is computed by `iterations` power iterations from a fixed random vector, and slightly too
    small where the two largest singular values are close. The gradient goes through the last
    iteration alone.

    - `target`: norm up to which a layer is not penalised

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.3, which proposes to penalise
    the upper Lipschitz bound of each layer and gives no formula; Yoshida & Miyato 2017
    (arXiv 1705.10941), eq. 5-6, for the layout and the power iteration.
    """

    target: float = 1.0
    iterations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.target, "target")
        check_count(self.iterations, "iterations")

    def __call__(self, model: Classifier) -> Tensor:
        gains = [gain(layer.weight, self.iterations) for layer in layers(model)]
        return self.weight * (torch.stack(gains) - self.target).clamp(min=0).square().sum()


def gain(weight: Tensor, iterations: int) -> Tensor:
    """The largest singular value of the weights [out, ...], by power iteration, []."""
    matrix = weight.flatten(1)
    with torch.no_grad():
        keys = random.row_keys(1, "gain", device=matrix.device)
        v = random.normal(keys, matrix.shape[1:], matrix.dtype)[0]
        for _ in range(iterations):
            u = nn.functional.normalize(matrix @ v, dim=0)
            v = nn.functional.normalize(matrix.T @ u, dim=0)
        u = nn.functional.normalize(matrix @ v, dim=0)
    return u @ (matrix @ v)
