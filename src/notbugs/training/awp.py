"""Adversarial weight perturbation (AWP): the gradient at adversarially perturbed weights."""

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
    """Takes each pass at weights perturbed to increase the loss, and then restores them.

        w' = w + size * ||w|| * g / ||g||,   g the gradient of the same loss at w

    for every weight of two dimensions or more, not for biases and norms.

    - `size`: gamma, the perturbation relative to the norm of the layer's weights; the default
      is the paper's for adversarial training (5e-3 with TRADES)

    **Source**: Wu et al. 2020 (arXiv 2004.05884), Algorithm 1 and eq. 10, one step.
    **Differs from the paper**: the gradient is taken on the model itself, not on a proxy
    copy after an optimiser step, as in the authors' code.
    """

    size: float = 1e-2

    def __post_init__(self) -> None:
        check_positive(self.size, "size")

    def apply(self, model: Classifier, run: Pass, clear: Callable[[], None]) -> Tensor:
        """The loss at the perturbed weights, whose gradients are added to the parameters'.

        - `run`: the pass; `clear`: sets the gradients to zero
        """
        with buffers_kept(model):
            run()
        weights = [p for p in model.parameters() if p.ndim > 1 and p.grad is not None]
        before = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w in weights:
                assert w.grad is not None
                w.add_(self.size * w.norm() / (w.grad.norm() + TINY) * w.grad)
        clear()
        try:
            return run()
        finally:
            with torch.no_grad():
                for w, old in zip(weights, before, strict=True):
                    w.copy_(old)
