"""ISTA and FISTA: gradient steps with soft thresholding, for sparse perturbations."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Theta
from notbugs.engine.rules import AbstractStepRule, StepInfo, required


@final
@dataclass(frozen=True)
class Ista(AbstractStepRule[Tensor]):
    """Gradient descent with soft thresholding of the perturbation after each step.

    x <- center + shrink(y - step * grad - center, threshold), clamped to the box; y is x
    itself, or with `momentum` x extrapolated along its last change (FISTA), and then y is the
    solver's point. The step size decays from `step_size` as the square root of the remaining
    steps, and the threshold (pixel units) is constant: so the weight of ||x - center||_1,
    which is threshold / step, grows.

    **Source**: Beck & Teboulle 2009 (FISTA); as an attack Chen et al. 2017 (arXiv
    1709.04114), Algorithm 1, equation 6.
    """

    threshold: float
    step_size: float
    momentum: bool = True

    def __post_init__(self) -> None:
        check_positive(self.step_size, "step_size")
        if not (0 <= self.threshold < float("inf")):
            raise bad_value("threshold", "be a finite number of at least 0", self.threshold)

    def init(self, theta: Theta, info: StepInfo) -> Theta:
        return theta

    def step(self, theta: Theta, info: StepInfo, state: Theta) -> tuple[Tensor, Tensor]:
        size = self.step_size * (1 - info.step / info.max_steps) ** 0.5
        d = theta.sub(required(info.grad), alpha=size) - info.center
        limit = self.threshold
        # The soft threshold of d is d minus its clamp to [-limit, limit].
        x = info.project(info.center + (d - d.clamp(-limit, limit)))
        if not self.momentum:
            return x, x
        return x + info.step / (info.step + 3) * (x - state), x
