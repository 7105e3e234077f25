"""Two stopping rules combined: a row stops at the first of them."""

from dataclasses import dataclass
from typing import Any, final

from notbugs.core.types import Mask
from notbugs.engine.rules import StepInfo
from notbugs.engine.stop import AbstractStop


@final
@dataclass(frozen=True)
class Either(AbstractStop):
    """A row stops when `first` or `second` stops it."""

    first: AbstractStop
    second: AbstractStop

    def init(self, info: StepInfo) -> tuple[Any, Any]:
        return self.first.init(info), self.second.init(info)

    def update(self, info: StepInfo, state: tuple[Any, Any]) -> tuple[Mask, tuple[Any, Any]]:
        first, first_state = self.first.update(info, state[0])
        second, second_state = self.second.update(info, state[1])
        return first | second, (first_state, second_state)
