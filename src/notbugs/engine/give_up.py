"""A stopping rule for rows that are not expected to reach their goal within the budget."""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch

from notbugs.core.errors import bad_type, bad_value, unknown_name
from notbugs.core.types import Mask, Rows
from notbugs.engine.rules import StepInfo
from notbugs.engine.stop import AbstractStop

FIRST = 16
"""The first checkpoint is at 1 / FIRST of the budget; each later one at twice the steps."""
FORECASTS = ("logarithmic", "geometric")


class GiveUpState(NamedTuple):
    """The gap at the start, the least so far, and the least at the previous checkpoint."""

    first: Rows
    least: Rows
    previous: Rows


@final
@dataclass(frozen=True)
class GiveUp(AbstractStop):
    """A row stops when its extrapolated progress does not reach the goal.

    The gap to success is the objective's `gap` or else its value: a row succeeds at 0.
    At 1/8, 1/4 and 1/2 of the budget, a row whose least gap was h at half the current step
    and is g now stops if

        g > continue_below * (the gap at the start)   and   g > slack * r * (h - g).

    - `forecast`: "logarithmic", for searches whose progress slows down: r is the number of
      doublings of the steps that remain, each assumed to gain as much as the last.
      "geometric", for methods that converge: r = 1, as if each doubling gained half as much
      as the one before.
    - `slack`: how many times more progress than forecast is allowed for, 1 or more
    - `continue_below`: share of the first gap below which a row always continues, 0..1; an
      infinite first gap counts as 1
    """

    forecast: str = "logarithmic"
    slack: float = 2.0
    continue_below: float = 0.25

    def __post_init__(self) -> None:
        if self.forecast not in FORECASTS:
            raise unknown_name("forecast", str(self.forecast), FORECASTS)
        for name in ("slack", "continue_below"):
            if not isinstance(getattr(self, name), int | float):
                raise bad_type(name, "a number", getattr(self, name))
        if not 1 <= self.slack < float("inf"):
            raise bad_value("slack", "be a finite number of at least 1", self.slack)
        if not 0 <= self.continue_below <= 1:
            raise bad_value(
                "continue_below", "lie in [0, 1]: a share of the first gap", self.continue_below
            )

    def init(self, info: StepInfo) -> GiveUpState:
        gap = _gap(info)
        first = torch.where(gap.isfinite(), gap, 1)
        return GiveUpState(first, gap, torch.full_like(gap, float("inf")))

    def update(self, info: StepInfo, state: GiveUpState) -> tuple[Mask, GiveUpState]:
        least = torch.minimum(
            state.least, _gap(info).nan_to_num(nan=float("inf"), posinf=float("inf"))
        )
        if info.step not in checkpoints(info.max_steps):
            return torch.zeros_like(info.success), state._replace(least=least)
        doublings = math.log2(info.max_steps / info.step) if self.forecast == "logarithmic" else 1.0
        # If `previous` is infinite, so is the progress (or it is NaN): the row continues.
        short = least > self.slack * doublings * (state.previous - least)
        far = least > self.continue_below * state.first
        return short & far, state._replace(least=least, previous=least)


def checkpoints(steps: int) -> frozenset[int]:
    """The steps at 1/16, 1/8, 1/4 and 1/2 of a budget."""
    return frozenset(steps * 2**i // FIRST for i in range(4)) - {0}


def _gap(info: StepInfo) -> Rows:
    return info.value if info.gap is None else info.gap
