"""Differentiable adversaries: training differentiates through the perturbation."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from notbugs.core import rows
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Logits
from notbugs.engine import L2, Threat
from notbugs.models.frozen import buffers_kept
from notbugs.training.adversary import AbstractAdversary
from notbugs.training.batch import Batch, Forward

TINY, SMALLEST = 1e-12, 1e-37


@dataclass(frozen=True)
class AbstractReactive(AbstractAdversary):
    """The perturbed image is a smooth function of the parameters, through the gradient.

    The sign of FGSM has no derivative, so a model trained on it cannot anticipate how the
    adversary reacts; here the backward pass takes a second derivative.
    """

    compiles: ClassVar[bool] = False

    @property
    def is_one_step(self) -> bool:
        return True

    @abstractmethod
    def moved(self, x: Images, grad: Images, eps: float) -> Images:
        """The perturbed images, differentiable by `grad` (the cross-entropy's)."""

    def perturbed(self, batch: Batch) -> Forward:
        """The logits of the perturbed images, with a graph through the gradient."""
        eps = Threat.parse(self.threat).eps * batch.strength

        def forward() -> Logits:
            x = batch.x.detach().clone().requires_grad_()
            with buffers_kept(batch.model):
                loss = batch.entropy(batch.logits(x)) * len(x)
                (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            # Scaled to entries of at most 1, so that small gradients do not vanish in a square.
            largest = rows.flatten(grad.detach()).abs().amax(dim=1).clamp(min=SMALLEST)
            grad = grad / rows.expand(largest, grad)
            return batch.logits(self.moved(x.detach(), grad, eps).clamp(0, 1))

        return forward


@dataclass(frozen=True)
class ScaledGradient(AbstractReactive):
    """x + eps * gradient / size of the gradient, in the threat's norm.

    - `threat`: for "l2:eps" the move has length eps; for "linf:eps" the largest entry of
      the move is eps

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 6 ("addition of the scaled
    gradient"); the scaling is ours, the paper gives none.
    """

    def moved(self, x: Images, grad: Images, eps: float) -> Images:
        size = Threat.parse(self.threat).norm.size(grad).clamp(min=TINY)
        return x + eps * grad / rows.expand(size, x)


@dataclass(frozen=True)
class Rotation(AbstractReactive):
    """The image turned towards the gradient by the angle whose arc has the length eps.

        x' = cos(t) x + sin(t) ||x|| g / ||g||,   t = eps / ||x||

    with g the part of the gradient perpendicular to x: the length of x is kept.

    - `threat`: "l2:eps"

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 6 ("small rotations"); the
    paper gives no formula.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if Threat.parse(self.threat).norm != L2():
            raise bad_value("threat", "be an L2 one for a rotation", self.threat)

    def moved(self, x: Images, grad: Images, eps: float) -> Images:
        length = L2().size(x).clamp(min=TINY)
        unit = x / rows.expand(length, x)
        across = grad - rows.expand(rows.total(grad * unit), x) * unit
        across = across / rows.expand(L2().size(across).clamp(min=TINY), x)
        turns = L2().size(across) > 0.5  # False where the gradient is parallel to the image, or 0
        angle = rows.expand(torch.where(turns, eps / length, 0), x)
        return angle.cos() * x + angle.sin() * rows.expand(length, x) * across
