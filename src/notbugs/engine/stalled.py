"""A row stops when nothing moves any more."""

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
    """A row stops when its value has been exactly the same for `patience` steps more.

    For rules that stay where they are once they find nothing to change.
    """

    patience: int = 2

    def __post_init__(self) -> None:
        check_count(self.patience, "patience")

    def init(self, info: StepInfo) -> tuple[Tensor, Tensor]:
        before = torch.full_like(info.value, float("nan"))
        return before, torch.zeros_like(info.value, dtype=torch.int64)

    def update(
        self, info: StepInfo, state: tuple[Tensor, Tensor]
    ) -> tuple[Mask, tuple[Tensor, Tensor]]:
        before, waited = state
        waited = torch.where(info.value == before, waited + 1, 0)
        return waited >= self.patience, (info.value, waited)
