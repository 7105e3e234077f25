"""A row stops when nothing moves any more."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core.errors import check_count
from notbugs.core.types import Mask, Rows
from notbugs.engine.stop import AbstractStop


@final
@dataclass(frozen=True)
class Stalled(AbstractStop):
    """A row stops when its value has been exactly the same for `patience` steps more.

    For rules that stay where they are once they find nothing to change.
    """

    patience: int = 2

    def __post_init__(self) -> None:
        """Refuses a patience below one step."""
        check_count(self.patience, "patience")

    def init(self, value: Rows) -> tuple[Tensor, Tensor]:
        return torch.full_like(value, float("nan")), torch.zeros_like(value, dtype=torch.int64)

    def update(
        self, value: Rows, success: Mask, state: tuple[Tensor, Tensor]
    ) -> tuple[Mask, tuple[Tensor, Tensor]]:
        before, waited = state
        waited = torch.where(value == before, waited + 1, 0)
        return waited >= self.patience, (value, waited)
