"""A row stops at the first of two reasons."""

from dataclasses import dataclass
from typing import Any, final

from notbugs.core.types import Mask
from notbugs.engine.rules import StepInfo
from notbugs.engine.stop import AbstractStop


@final
@dataclass(frozen=True)
class Either(AbstractStop):
    """A row stops where `first` or `second` says so."""

    first: AbstractStop
    second: AbstractStop

    def init(self, info: StepInfo) -> tuple[Any, Any]:
        return self.first.init(info), self.second.init(info)

    def update(self, info: StepInfo, state: tuple[Any, Any]) -> tuple[Mask, tuple[Any, Any]]:
        one, a = self.first.update(info, state[0])
        other, b = self.second.update(info, state[1])
        return one | other, (a, b)
