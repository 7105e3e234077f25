"""N-FGSM: one gradient step from a noisy image, without projection onto the ball."""

from dataclasses import dataclass

import torch

from notbugs.core import random
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images
from notbugs.engine import Linf, Threat
from notbugs.models import frozen
from notbugs.training.adversary import AbstractImageAdversary
from notbugs.training.batch import Batch


@dataclass(frozen=True)
class NoisyStep(AbstractImageAdversary):
    """x + eta + step * sign(gradient at x + eta), eta uniform in [-noise * eps, noise * eps].

    - `threat`: Linf alone
    - `noise`, `step`: in units of eps

    The image is only clamped to [0, 1]: its distance is up to (noise + step) * eps.

    **Source**: de Jorge et al. 2022 (arXiv 2202.01181), Algorithm 1: k = 2, alpha = eps.
    """

    threat: str = "linf:8/255"
    noise: float = 2.0
    step: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if Threat.parse(self.threat).norm != Linf():
            raise bad_value("threat", "be an Linf one for N-FGSM", self.threat)
        check_positive(self.noise, "noise")
        check_positive(self.step, "step")

    @property
    def is_one_step(self) -> bool:
        return True

    def images(self, batch: Batch) -> Images:
        eps = Threat.parse(self.threat).eps * batch.strength
        x, keys = batch.x, random.fold(batch.keys, "n-fgsm")
        eta = (2 * random.uniform(keys, x.shape[1:], x.dtype) - 1) * (self.noise * eps)
        start = (x + eta).requires_grad_()
        with frozen(batch.model, training=True), torch.enable_grad():
            (grad,) = torch.autograd.grad(batch.entropy(batch.logits(start)), start)
        return (start.detach() + self.step * eps * grad.sign()).clamp(0, 1)
