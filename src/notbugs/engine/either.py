"""A row stops at the first of two reasons."""

from dataclasses import dataclass
from typing import Any, final

from notbugs.core.types import Mask, Rows
from notbugs.engine.stop import AbstractStop


@final
@dataclass(frozen=True)
class Either(AbstractStop):
    """A row stops where `first` or `second` says so."""

    first: AbstractStop
    second: AbstractStop

    def init(self, value: Rows) -> tuple[Any, Any]:
        return self.first.init(value), self.second.init(value)

    def update(
        self, value: Rows, success: Mask, state: tuple[Any, Any]
    ) -> tuple[Mask, tuple[Any, Any]]:
        one, a = self.first.update(value, success, state[0])
        other, b = self.second.update(value, success, state[1])
        return one | other, (a, b)
