"""Stopping rules: when a row finishes before its last step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from notbugs.core.errors import check_count
from notbugs.core.types import Mask
from notbugs.engine.rules import StepInfo


class AbstractStop(ABC):
    """Decides, row by row, whether to stop. Its state is a tree of per-row tensors."""

    never: ClassVar[bool] = False
    """True if no row ever stops: the solver then never waits for the device."""

    @abstractmethod
    def init(self, info: StepInfo) -> Any:
        """The state before the first step."""

    @abstractmethod
    def update(self, info: StepInfo, state: Any) -> tuple[Mask, Any]:
        """(finished [n], new state) after an evaluation."""


@final
@dataclass(frozen=True)
class Never(AbstractStop):
    """Every row takes all its steps."""

    never: ClassVar[bool] = True

    def init(self, info: StepInfo) -> None:
        return None

    def update(self, info: StepInfo, state: None) -> tuple[Mask, None]:
        return torch.zeros_like(info.success), None


@final
@dataclass(frozen=True)
class OnSuccess(AbstractStop):
    """A row stops at its first success."""

    def init(self, info: StepInfo) -> None:
        return None

    def update(self, info: StepInfo, state: None) -> tuple[Mask, None]:
        return info.success, None


@final
@dataclass(frozen=True)
class Plateau(AbstractStop):
    """A row stops if its value fell by less than `tolerance` of itself in `patience` steps.

    It looks every `patience` steps, and compares with its last look rather than with the lowest
    value: a rule whose first steps overshoot a start that is nearly best may come down again. So
    no row stops before the second look.

    **Source**: the early abort of Carlini & Wagner 2016 (the authors' code).

    **Raises** ValueError for a `patience` that is no count.
    """

    patience: int = 20
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_count(self.patience, "patience")

    def init(self, info: StepInfo) -> tuple[Tensor, Tensor]:
        reference = torch.full_like(info.value, float("inf"))
        return reference, torch.zeros_like(info.value, dtype=torch.int64)

    def update(
        self, info: StepInfo, state: tuple[Tensor, Tensor]
    ) -> tuple[Mask, tuple[Tensor, Tensor]]:
        reference, waited = state
        value = info.value
        fell = value < reference - self.tolerance * reference.abs().nan_to_num(posinf=0.0)
        looks = waited + 1 >= self.patience
        reference = torch.where(looks, value, reference)
        return looks & ~fell, (reference, torch.where(looks, 0, waited + 1))
