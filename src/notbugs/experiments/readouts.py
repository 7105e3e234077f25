"""Linear readouts: what a logistic regression reads of codes, embeddings and the like."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.core.types import Labels
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen

Codes = Float[Tensor, "n d"]
ITERATIONS, BATCH = 300, 256
NEVER = -1e9
"""The logit of a class that no label has."""


def linear_readout(codes: Codes, labels: Labels, classes: int) -> nn.Linear:
    """A logistic regression of the labels, fitted to standardised codes, as a layer in float64.

    - `labels` [n], in 0..classes-1; a class that does not occur is never named

    **Raises** ValueError where one class alone occurs.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    if len(labels.unique()) < 2:
        raise bad_value("labels", "be of two classes or more", "one", "Take more images.")
    codes = codes.double()
    center, spread = codes.mean(dim=0), codes.std(dim=0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)  # as scikit-learn scales what is constant
    model: Any = LogisticRegression(max_iter=ITERATIONS)
    model.fit(((codes - center) / spread).numpy(), labels.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(weight) == 1:  # of two classes scikit-learn has the second's lead alone
        weight, bias = (torch.cat([-part, part]) / 2 for part in (weight, bias))
    layer, present = nn.Linear(codes.shape[1], classes, dtype=torch.float64), model.classes_
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(NEVER)
        layer.weight[present] = weight / spread
        layer.bias[present] = bias - (weight / spread) @ center
    return layer


@torch.no_grad()
def read(
    codes: Codes,
    labels: Labels,
    test_codes: Float[Tensor, "m d"],
    test_labels: Int[Tensor, " m"],
) -> float:
    """Percent of test labels that a readout of the codes has right."""
    classes = int(torch.cat([labels, test_labels]).max()) + 1
    named = linear_readout(codes, labels, classes)(test_codes.double()).argmax(dim=1)
    return 100 * float((named == test_labels).double().mean())


@torch.no_grad()
def embedded(model: Classifier, data: ImageData) -> Codes:
    """A model's embeddings of a set's images, [n, d], on the processor."""
    with frozen(model):
        parts = torch.arange(len(data)).split(BATCH)
        return torch.cat([model.embed(data.pixels(i).to(model.device)).cpu() for i in parts])
