"""A linear classifier of features: which of them it gives weight, and which under an adversary."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.types import Images, Logits
from notbugs.data import ImageData
from notbugs.features.usefulness import Features
from notbugs.models import Classifier, wrap
from notbugs.training import Recipe, train


@final
class _Head(nn.Module):
    """Logits b + sum of w_f f(x). The features are no part of it: their weights stay."""

    def __init__(self, features: Features, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(len(features), classes)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.01, generator=generator)
            self.head.bias.zero_()
        self.to(features.directions)

    def forward(self, x: Images) -> Logits:
        return self.head(self.features.values(x))


def feature_classifier(
    features: Features, data: ImageData, recipe: Recipe, *, seed: int
) -> Classifier:
    """The classifier C(x) = argmax of b + sum over features of w_f f(x), trained by a recipe.

    Only w and b are trained: by empirical risk, or, where the recipe has an adversary, by
    adversarial loss, whose perturbations pass through the features. Its embedding are the features,
    [n, m].

    - `data`: training images; `recipe`: of w and b

    **Raises** ValueError as `training.train`.
    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 2, equations 3 and 4.
    """
    head = _Head(features, data.classes, random.generator(seed, "feature classifier"))
    return train(
        wrap(head, shape=data.shape, embedding="head.input"), data, recipe, seed=seed
    ).model


@torch.no_grad()
def feature_weights(classifier: Classifier) -> Float[Tensor, " m"]:
    """The share of the weight that each feature has: ||w_f|| over the sum of all, [m].

    - `classifier`: of `feature_classifier`
    """
    sizes = classifier.body.get_submodule("head").weight.norm(dim=0)  # pyright: ignore
    return (sizes / sizes.sum()).cpu()
