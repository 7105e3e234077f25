"""Giving up: on rows whose progress ends short of the goal, and on no others."""

import pytest
import torch

from notbugs.core import random
from notbugs.engine import (
    L2,
    Evaluation,
    Everywhere,
    GiveUp,
    LowestValue,
    Solver,
    Steepest,
)
from notbugs.engine.give_up import checkpoints
from notbugs.engine.objective import AbstractObjective

STEPS = 160


class Script(AbstractObjective):
    """Plays back a value for each row and evaluation, whatever the point: [rows, steps + 1]."""

    def __init__(self, values, gaps=None) -> None:
        self.values, self.gaps, self.at = values, gaps, 0
        self.rows = []

    def __call__(self, x, context, draw) -> Evaluation:
        row, now = context["row"], min(self.at, self.values.shape[1] - 1)
        self.rows.append(len(row))
        self.at += 1
        value = self.values[row, now] + 0 * x.sum(dim=1)
        gap = None if self.gaps is None else self.gaps[row, now]
        return Evaluation(value, value.detach() < 0 if gap is None else gap < 0, gap=gap)


def steps_taken(values, stop, gaps=None):
    """After how many steps each row of the script ended."""
    n = len(values)
    solver = Solver(Everywhere(), Steepest(L2(), 0.1), STEPS, keep=LowestValue(), stop=stop)
    script = Script(values, gaps)
    found = solver.minimise(
        script, torch.zeros(n, 3), {"row": torch.arange(n)}, keys=random.row_keys(n, "reach")
    )
    return found.steps.tolist(), script


def course(f):
    return torch.tensor([float(f(k)) for k in range(STEPS + 1)])


FLAT = course(lambda k: 1.0)
HALF = course(lambda k: 0.2)
LOG = course(lambda k: 1 - torch.log2(torch.tensor(k + 1.0)) / 7)  # below 0 at step 128
SLOW = course(lambda k: 1 - torch.log2(torch.tensor(k + 1.0)) / 70)
DECAY = course(lambda k: 2.0 ** (-k / 20.0) + 0.5)


def test_a_budget_is_looked_at_four_times() -> None:
    assert checkpoints(160) == {10, 20, 40, 80}
    assert checkpoints(5000) == {312, 625, 1250, 2500}
    assert checkpoints(5) == {1, 2}  # and never before the first step


def test_rows_that_get_nowhere_end_at_an_eighth_of_the_budget() -> None:
    taken, script = steps_taken(torch.stack([FLAT, SLOW, LOG]), GiveUp(continue_below=0.1))
    assert taken == [20, 20, STEPS]
    assert script.rows[0] == 3
    assert script.rows[-1] == 1  # and cost nothing any more


def test_a_row_that_is_near_goes_on_whatever_the_forecast() -> None:
    near = torch.stack([FLAT, torch.cat([torch.ones(1), HALF[1:]])])
    assert steps_taken(near, GiveUp(continue_below=0.25))[0] == [20, STEPS]
    assert steps_taken(near, GiveUp(continue_below=0.1))[0] == [20, 20]


def test_slack_decides_where_the_line_ends() -> None:
    # Falls by 1/10 a doubling from 1/2 on: out of reach by the line, within it six times.
    values = course(lambda k: 0.9 - torch.log2(torch.tensor(max(k, 1) / 1.0)) / 10)[None]
    assert steps_taken(values, GiveUp(slack=1.0, continue_below=0.0))[0] == [20]
    assert steps_taken(values, GiveUp(slack=6.0, continue_below=0.0))[0] == [STEPS]


def test_a_course_that_converges_above_the_goal_is_left_earlier_by_the_geometric_forecast() -> None:
    values = DECAY[None]
    early, _ = steps_taken(values, GiveUp("geometric", slack=1.0, continue_below=0.0))
    late, _ = steps_taken(values, GiveUp("logarithmic", slack=2.0, continue_below=0.0))
    assert early == [20]
    assert late[0] > early[0]


def test_a_row_without_a_finite_gap_goes_on() -> None:
    gaps = torch.stack([torch.full_like(FLAT, float("inf")), torch.full_like(FLAT, float("nan"))])
    assert steps_taken(torch.stack([FLAT, FLAT]), GiveUp(), gaps)[0] == [STEPS, STEPS]


def test_the_gap_counts_where_there_is_one() -> None:
    gaps = torch.stack([FLAT, LOG.clamp(min=0.01)])
    values = torch.stack([-FLAT, FLAT])  # say the opposite
    assert steps_taken(values, GiveUp(continue_below=0.1), gaps)[0] == [20, STEPS]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"forecast": "linear"}, "forecast"),
        ({"slack": 0.5}, "slack. must be a finite number of at least 1"),
        ({"continue_below": 1.5}, r"continue_below. must lie in \[0, 1\]"),
    ],
)
def test_settings_that_make_no_sense(given, words) -> None:
    with pytest.raises(ValueError, match=words):
        GiveUp(**given)


def test_giving_up_is_no_success() -> None:
    solver = Solver(Everywhere(), Steepest(L2(), 0.1), STEPS, stop=GiveUp())
    found = solver.minimise(
        Script(torch.stack([FLAT, -FLAT])),
        torch.zeros(2, 3),
        {"row": torch.arange(2)},
        keys=random.row_keys(2, "reach"),
    )
    assert found.success.tolist() == [False, True]
