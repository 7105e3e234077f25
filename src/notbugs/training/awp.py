"""Adversarial weight perturbation: learn where the weights are worst, near where they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core.errors import check_positive
from notbugs.models import Classifier
from notbugs.models.frozen import buffers_kept
from notbugs.training.batch import Pass

TINY = 1e-12


@final
@dataclass(frozen=True)
class Awp:
    """Each pass is taken at weights moved up the loss, layer by layer, and then undone.

        w' = w + size * ||w|| * g / ||g||,   g the gradient of the same loss at w

    for every weight of two dimensions or more (biases and norms stay).

    - `size`: gamma, the move as a share of the layer's own length; the default is the paper's
      for adversarial training, with TRADES it takes 5e-3

    **Source**: Wu et al. 2020 (arXiv 2004.05884), Algorithm 1 and eq. 10, one step.
    **Differs from the paper**: the gradient is taken on the model itself, not on a copy that
    lags behind by the optimiser's step, as in the authors' code.
    """

    size: float = 1e-2

    def __post_init__(self) -> None:
        check_positive(self.size, "size")

    def taken(self, model: Classifier, one: Pass, clear: Callable[[], None]) -> Tensor:
        """The loss of the pass at the moved weights; its gradients are left on the parameters."""
        with buffers_kept(model):
            one()
        weights = [p for p in model.parameters() if p.ndim > 1 and p.grad is not None]
        before = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w in weights:
                assert w.grad is not None
                w.add_(self.size * w.norm() / (w.grad.norm() + TINY) * w.grad)
        clear()
        try:
            return one()
        finally:
            with torch.no_grad():
                for w, old in zip(weights, before, strict=True):
                    w.copy_(old)
