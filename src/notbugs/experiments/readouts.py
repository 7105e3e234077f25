"""Linear readouts: what a logistic regression reads of codes, embeddings and the like."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from notbugs.core.types import Labels
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen

Codes = Float[Tensor, "n d"]
ITERATIONS, BATCH = 300, 256


def linear_readout(codes: Codes, labels: Labels) -> nn.Linear:
    """A logistic regression of the labels, fitted to standardised codes, as a layer in float64.

    - `labels`: every class 0..k-1 occurs
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    codes = codes.double()
    center, spread = codes.mean(dim=0), codes.std(dim=0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)  # as scikit-learn scales what is constant
    model: Any = LogisticRegression(max_iter=ITERATIONS)
    model.fit(((codes - center) / spread).numpy(), labels.numpy())
    layer = nn.Linear(codes.shape[1], len(model.classes_), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(model.coef_) / spread)
        layer.bias.copy_(torch.from_numpy(model.intercept_) - layer.weight @ center)
    return layer


@torch.no_grad()
def read(
    codes: Codes,
    labels: Labels,
    test_codes: Float[Tensor, "m d"],
    test_labels: Int[Tensor, " m"],
) -> float:
    """Percent of test labels that a readout of the codes has right."""
    named = linear_readout(codes, labels)(test_codes.double()).argmax(dim=1)
    return 100 * float((named == test_labels).double().mean())


@torch.no_grad()
def embedded(model: Classifier, data: ImageData) -> Codes:
    """A model's embeddings of a set's images, [n, d], on the processor."""
    with frozen(model):
        parts = torch.arange(len(data)).split(BATCH)
        return torch.cat([model.embed(data.pixels(i).to(model.device)).cpu() for i in parts])
