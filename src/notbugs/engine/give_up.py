"""A row stops when it cannot reach its goal within the budget any more."""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Mask, Rows
from notbugs.engine.rules import StepInfo
from notbugs.engine.stop import AbstractStop

FIRST = 16
"""The first previous lies at this part of the budget; each later one at twice the steps."""
FORECASTS = ("logarithmic", "geometric")


class GiveUpState(NamedTuple):
    """The gap at the start, its least so far, the least at the last previous."""

    first: Rows
    least: Rows
    previous: Rows


@final
@dataclass(frozen=True)
class GiveUp(AbstractStop):
    """A row stops when its progress, drawn on, ends short of the goal.

    The gap to success is the objective's `gap` or else its value: a row succeeds at 0.
    At 1/8, 1/4 and 1/2 of the budget, a row whose least gap was h at half the steps and
    is g now stops when

        g > continue_below * (the gap at the start)   and   g > slack * r * (h - g).

    - `forecast`: "logarithmic", for searches and steps that slow down along the way: r
      counts the doublings of the steps that are left, each taken to bring as much as the
      last. "geometric", for methods that converge: r = 1, as if each doubling brought
      half of the one before.
    - `slack`: how many times better it may yet go than forecast, 1 or more
    - `continue_below`: share of the first gap below which a row goes on whatever the forecast,
      0..1; a first gap that is infinite counts as 1
    """

    forecast: str = "logarithmic"
    slack: float = 2.0
    continue_below: float = 0.25

    def __post_init__(self) -> None:
        if self.forecast not in FORECASTS:
            raise unknown_name("forecast", self.forecast, FORECASTS)
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
        left = math.log2(info.max_steps / info.step) if self.forecast == "logarithmic" else 1.0
        # An infinite previous makes the fall infinite or NaN: such a row goes on.
        short = least > self.slack * left * (state.previous - least)
        far = least > self.continue_below * state.first
        return short & far, state._replace(least=least, previous=least)


def checkpoints(steps: int) -> frozenset[int]:
    """The steps at which a budget is looked at: a sixteenth, an eighth, a quarter, a half."""
    return frozenset(steps * 2**i // FIRST for i in range(4)) - {0}


def _gap(info: StepInfo) -> Rows:
    return info.value if info.gap is None else info.gap
