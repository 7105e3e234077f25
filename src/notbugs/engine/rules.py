"""Step rules: how the next point is computed from the gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import check_positive, unknown_name
from notbugs.core.types import Images, Keys, Mask, Rows, Theta
from notbugs.engine.norms import AbstractNorm, check_norm

S = TypeVar("S")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Needs:
    """What a step rule needs from the evaluation before its step.

    - `grad`: the gradient of the value; `jacobian`: those of all outputs
    - `value`, `success`: whether the step depends on them
    - `same_values`: it compares values of different steps, so the objective must not be random
    """

    grad: bool = True
    jacobian: bool = False
    value: bool = True
    success: bool = True
    same_values: bool = False

    @property
    def derivatives(self) -> bool:
        """Whether the objective must be differentiable."""
        return self.grad or self.jacobian


GRADIENT_ALONE = Needs(value=False, success=False)
"""The needs of rules whose step depends on the gradient only."""


@dataclass(frozen=True)
class StepInfo:
    """What a rule, a stop or an observer sees at one step, for the active rows.

    `value` [n], `success` [n], `outputs` [n, k] and `gap` [n] are the objective's; the last two
    are None if it has none. `grad` [n, ...] and `jacobian` [n, k, ...] are set if the rule
    `Needs` them. `place` [n] is the index of each row in the batch.
    """

    step: int
    max_steps: int
    value: Rows
    grad: Theta | None
    success: Mask
    center: Images
    keys: Keys
    project: Callable[[Tensor], Tensor]
    outputs: Float[Tensor, "n ..."] | None = None
    jacobian: Float[Tensor, "n k *theta"] | None = None
    gap: Rows | None = None
    place: Keys | None = None


class AbstractStepRule(ABC, Generic[S]):
    """Computes the next variables; its state is a tree of per-row tensors (or None)."""

    needs: ClassVar[Needs] = Needs()

    @abstractmethod
    def init(self, theta: Theta, info: StepInfo) -> S:
        """The state before the first step."""

    @abstractmethod
    def step(self, theta: Theta, info: StepInfo, state: S) -> tuple[Tensor, S]:
        """(next variables before projection, next state)."""


def required(grad: Theta | None) -> Theta:
    """The gradient (or Jacobian), which must not be None."""
    if grad is None:
        raise RuntimeError("This rule needs a gradient and was given none.")
    return grad


def _scheduled(size: float, schedule: str, info: StepInfo) -> float:
    done = info.step / info.max_steps
    if schedule == "constant":
        return size
    return size * (1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


def _check_step(step_size: float, schedule: str) -> None:
    check_positive(step_size, "step_size")
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)


@final
@dataclass(frozen=True)
class Steepest(AbstractStepRule[None]):
    """theta - step_size * steepest(grad): sign steps for Linf, normalised steps for L2.

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572) for one Linf step; Madry et al.
    2017 (arXiv 1706.06083) for many. **Differs from the papers**: `schedule` can decrease
    the step size to zero over the solve; "constant" is theirs.
    """

    norm: AbstractNorm
    step_size: float
    schedule: str = "constant"

    needs: ClassVar[Needs] = GRADIENT_ALONE

    def __post_init__(self) -> None:
        check_norm(self.norm)
        _check_step(self.step_size, self.schedule)

    def init(self, theta: Theta, info: StepInfo) -> None:
        return None

    def step(self, theta: Theta, info: StepInfo, state: None) -> tuple[Tensor, None]:
        size = _scheduled(self.step_size, self.schedule, info)
        return theta.sub(self.norm.steepest(required(info.grad)), alpha=size), None


@final
@dataclass(frozen=True)
class Momentum(AbstractStepRule[Tensor]):
    """Steepest descent along a decayed sum of gradients, each scaled to unit L1 norm.

    **Source**: Dong et al. 2018 (arXiv 1710.06081), Algorithm 1, eq. 6-7.
    """

    norm: AbstractNorm
    step_size: float
    decay: float = 1.0
    schedule: str = "constant"

    needs: ClassVar[Needs] = GRADIENT_ALONE

    def __post_init__(self) -> None:
        check_norm(self.norm)
        _check_step(self.step_size, self.schedule)

    def init(self, theta: Theta, info: StepInfo) -> Theta:
        return torch.zeros_like(theta)

    def step(self, theta: Theta, info: StepInfo, state: Theta) -> tuple[Tensor, Tensor]:
        grad = required(info.grad)
        size = rows.flatten(grad).abs().sum(dim=1)
        velocity = self.decay * state + grad / rows.expand(torch.where(size > 0, size, 1), grad)
        length = _scheduled(self.step_size, self.schedule, info)
        return theta.sub(self.norm.steepest(velocity), alpha=length), velocity


class AdamState(NamedTuple):
    """First and second moments of the gradient, each shaped as the variables."""

    mean: Theta
    square: Theta


@final
@dataclass(frozen=True)
class Adam(AbstractStepRule[AdamState]):
    """Adam on the variables; each entry has its own step, so rows do not mix.

    **Source**: Kingma & Ba 2014 (arXiv 1412.6980), Algorithm 1.
    """

    step_size: float
    beta1: float = 0.9
    beta2: float = 0.999
    damping: float = 1e-8
    schedule: str = "constant"

    needs: ClassVar[Needs] = GRADIENT_ALONE

    def __post_init__(self) -> None:
        _check_step(self.step_size, self.schedule)

    def init(self, theta: Theta, info: StepInfo) -> AdamState:
        return AdamState(torch.zeros_like(theta), torch.zeros_like(theta))

    def step(self, theta: Theta, info: StepInfo, state: AdamState) -> tuple[Tensor, AdamState]:
        grad, t = required(info.grad), info.step + 1
        mean = torch.lerp(grad, state.mean, self.beta1)
        square = torch.lerp(grad * grad, state.square, self.beta2)
        scale = (square / (1 - self.beta2**t)).sqrt_().add_(self.damping)
        size = _scheduled(self.step_size, self.schedule, info) / (1 - self.beta1**t)
        return theta - size * mean / scale, AdamState(mean, square)
