"""Learnt curvature: exact on quadratics, and never a step that is kept for the worse."""

from dataclasses import dataclass

import pytest
import torch

from notbugs.core import random
from notbugs.engine import (
    L2,
    LBFGS,
    AbstractObjective,
    BallInBox,
    Box,
    Evaluation,
    Everywhere,
    LowestValue,
    Solver,
    Steepest,
)

N, SIDE = 5, 4


@dataclass(frozen=True, eq=False)
class Residual(AbstractObjective):
    """||A x - b||, or half its square."""

    matrix: torch.Tensor
    squared: bool

    def __call__(self, x, context, draw) -> Evaluation:
        r = x.flatten(1) @ self.matrix.T - context["b"]
        if self.squared:
            return Evaluation(0.5 * r.square().sum(dim=1))
        return Evaluation(torch.linalg.vector_norm(r, dim=1))


def problem(condition=100.0):
    """Full rank, singular values from 1 to 1 / condition; b is of images within the box."""
    d = SIDE * SIDE
    square = random.normal(random.row_keys(d, "matrix"), (d,), torch.float64)
    left, right = torch.linalg.qr(square)[0], torch.linalg.qr(square.T)[0]
    sizes = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), d, dtype=torch.float64)
    matrix = (left * sizes) @ right
    keys = random.row_keys(N, "residual")
    goal = 0.1 + 0.8 * random.uniform(keys, (1, SIDE, SIDE), torch.float64)
    start = random.uniform(random.fold(keys, "start"), (1, SIDE, SIDE), torch.float64)
    return matrix, goal, start, {"b": goal.flatten(1) @ matrix.T}, keys


@pytest.mark.parametrize("squared", [True, False])
def test_finds_the_known_inverse_of_a_linear_map(squared) -> None:
    matrix, goal, start, context, keys = problem(10)
    solver = Solver(Everywhere(), LBFGS(16, distances=not squared), 80, keep=LowestValue())
    found = solver.minimise(Residual(matrix, squared), start, context, keys=keys)
    torch.testing.assert_close(found.x, goal, rtol=0, atol=1e-4)


@pytest.mark.parametrize("within", [Box(), BallInBox(L2(), 5.0)], ids=["box", "ball"])
def test_the_optimum_on_the_border_of_the_box_obeys_its_conditions(within) -> None:
    """The gradient vanishes inside, and points outwards where the box holds."""
    matrix, goal, start, _, keys = problem(10)
    context = {"b": (3 * goal - 1).flatten(1) @ matrix.T}
    solver = Solver(within, LBFGS(16), 400, keep=LowestValue())
    found = solver.minimise(Residual(matrix, True), start, context, keys=keys).x
    grad = ((found.flatten(1) @ matrix.T - context["b"]) @ matrix).reshape(found.shape)
    assert bool((found == 0).any())
    assert bool((found == 1).any())
    assert float((found - (found - grad).clamp(0, 1)).abs().max()) < 1e-3


def test_reaches_a_distance_in_a_fraction_of_the_steps() -> None:
    """By what a constant step reaches in 200, on a map of condition 100."""
    matrix, _, start, context, keys = problem()
    wanted = Residual(matrix, False)
    ends = [
        Solver(Box(), rule, steps, keep=LowestValue())
        .minimise(wanted, start, context, keys=keys)
        .value
        for rule, steps in ((LBFGS(distances=True), 40), (Steepest(L2(), 0.1, "cosine"), 200))
    ]
    assert bool((ends[0] < ends[1]).all())


def test_the_first_step_reaches_zero_where_the_distance_falls_as_its_slope_says() -> None:
    """One direction: |<a, x> - b| is reached at once."""
    a = random.normal(random.row_keys(1, "a"), (SIDE * SIDE,), torch.float64)
    start = random.uniform(random.row_keys(N, "s"), (1, SIDE, SIDE), torch.float64)
    context = {"b": start.flatten(1) @ a.T + 0.3}
    solver = Solver(Everywhere(), LBFGS(distances=True), 1, keep=LowestValue())
    found = solver.minimise(Residual(a, False), start, context, keys=random.row_keys(N))
    assert float(found.value.max()) < 1e-12
    short = Solver(Everywhere(), LBFGS(first=0.05), 1, keep=LowestValue())
    found = short.minimise(Residual(a, False), start, context, keys=random.row_keys(N))
    torch.testing.assert_close(
        L2().size(found.x - start), torch.full((N,), 0.05, dtype=torch.float64)
    )


def test_a_goal_that_is_reached_and_a_flat_place_stay_as_they_are() -> None:
    matrix, goal, _, context, keys = problem()
    solver = Solver(Box(), LBFGS(distances=True), 10, keep=LowestValue())
    found = solver.minimise(Residual(matrix, False), goal, context, keys=keys)
    torch.testing.assert_close(found.x, goal)
    flat = solver.minimise(Residual(0 * matrix, False), goal, context, keys=keys)
    assert torch.equal(flat.x, goal)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`memory` must be at least 1; got 0"):
        LBFGS(0)
    with pytest.raises(ValueError, match=r"`first` must be a finite number above 0; got -1"):
        LBFGS(first=-1)
