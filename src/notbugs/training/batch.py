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
"""Logits of the perturbed batch, with a graph to the parameters; each call makes a new one."""
Pass = Callable[[], Tensor]
"""A forward and a backward pass: adds to the parameters' gradients, returns the loss [] ."""


@dataclass(frozen=True)
class Batch:
    """What is at hand when one step is taken.

    - `model`: in train mode
    - `logits`: images [n, c, h, w] -> logits [n, k], in the recipe's precision
    - `x`: the images, augmented; `y` [n]: their classes; `keys` [n]: their randomness
    - `strength`: 0..1, the share of the adversary's full size in force
    - `soft` [n, k]: a teacher's probabilities, where there is one
    - `folded_copy`: the same logits in eval mode for less, where there is one
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
        """Logits to craft by, in train or eval mode, without gradients of the parameters."""
        if self.folded_copy is not None and not training:
            yield self.folded_copy
            return
        with frozen(self.model, training=training):
            yield self.logits

    def entropy(self, logits: Logits, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the batch's classes (nats), []; `smoothing` as in `Plain`."""
        return F.cross_entropy(logits, self.y, label_smoothing=smoothing)


def through(loss: Callable[[], Tensor]) -> Pass:
    """The pass that differentiates a loss by the parameters."""

    def both() -> Tensor:
        with torch.enable_grad():
            value = loss()
        value.backward()
        return value.detach()

    return both
