"""A stopping rule for rows whose value no longer changes."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core.errors import check_count
from notbugs.core.types import Mask
from notbugs.engine.rules import StepInfo
from notbugs.engine.stop import AbstractStop


@final
@dataclass(frozen=True)
class Stalled(AbstractStop):
    """A row stops when its value has not changed at all in the last `patience` steps.

    For rules that no longer move a row once they find nothing to change.
    """

    patience: int = 2

    def __post_init__(self) -> None:
        check_count(self.patience, "patience")

    def init(self, info: StepInfo) -> tuple[Tensor, Tensor]:
        previous = torch.full_like(info.value, float("nan"))
        return previous, torch.zeros_like(info.value, dtype=torch.int64)

    def update(
        self, info: StepInfo, state: tuple[Tensor, Tensor]
    ) -> tuple[Mask, tuple[Tensor, Tensor]]:
        previous, waited = state
        waited = torch.where(info.value == previous, waited + 1, 0)
        return waited >= self.patience, (info.value, waited)
