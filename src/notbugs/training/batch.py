"""A batch of training images, as adversaries and training objectives see it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core.types import Images, Keys, Labels, Logits
from notbugs.models import Classifier, frozen
from notbugs.models.folded_copy import FoldedCopy

Forward = Callable[[], Logits]
"""Returns the logits of the perturbed batch, with a new graph to the parameters each time."""
Pass = Callable[[], Tensor]
"""A forward and a backward pass: adds to the parameters' gradients, returns the loss []."""


@dataclass(frozen=True)
class Batch:
    """The inputs of a training step.

    - `model`: in train mode
    - `logits`: images [n, c, h, w] -> logits [n, k], in the recipe's precision
    - `x`: the augmented images; `y` [n]: their classes; `keys` [n]: of their random draws
    - `strength`: 0..1, the share of the adversary's eps in use
    - `soft` [n, k]: a teacher's probabilities, if any
    - `folded_copy`: a cheaper copy of the model in eval mode, if any
    """

    model: Classifier
    logits: Callable[[Images], Logits]
    x: Images
    y: Labels
    keys: Keys
    strength: float = 1.0
    soft: Tensor | None = None
    folded_copy: FoldedCopy | None = None

    @contextmanager
    def crafting(self, *, training: bool) -> Generator[Callable[[Images], Logits], None, None]:
        """Yields logits for crafting, in train or eval mode, without parameter gradients."""
        if self.folded_copy is not None and not training:
            yield self.folded_copy
            return
        with frozen(self.model, training=training):
            yield self.logits

    def entropy(self, logits: Logits, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the batch's classes (nats), []; `smoothing` as in `Plain`."""
        return F.cross_entropy(logits, self.y, label_smoothing=smoothing)


def through(loss: Callable[[], Tensor]) -> Pass:
    """The pass that computes a loss and its gradients by the parameters."""

    def run() -> Tensor:
        with torch.enable_grad():
            value = loss()
        value.backward()
        return value.detach()

    return run
