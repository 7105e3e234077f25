"""What the solver's speed rests on: shared projections, and divisors that are never zero."""

import pytest
import torch

from notbugs.core import random
from notbugs.engine import L2, AbstractSet, Ball, BallInBox, Box, Everywhere, Last, Linf
from notbugs.engine.keep import Kept, LowestValue

SETS = [Ball(Linf(), 0.1), Ball(L2(), 0.5), BallInBox(Linf(), 0.1), BallInBox(L2(), 0.5), Box()]


@pytest.mark.parametrize("within", [*SETS, Everywhere()], ids=str)
def test_around_is_project_with_the_centre_bound(within: AbstractSet) -> None:
    center = torch.rand(5, 2, 3, 3, generator=random.generator("center"))
    x = center + torch.randn(5, 2, 3, 3, generator=random.generator("x"))
    assert torch.equal(within.around(center)(x), within.project(x, center))


def test_everywhere_takes_variables_of_any_shape() -> None:
    theta = torch.ones(2, 7)
    assert Everywhere().around(torch.rand(2, 1, 3, 3))(theta) is theta


def test_projections_leave_their_input_alone() -> None:
    for within in SETS:
        center = torch.rand(3, 1, 2, 2, generator=random.generator("center"))
        x = center + 1
        kept = x.clone(), center.clone()
        within.around(center)(x)
        assert torch.equal(x, kept[0])
        assert torch.equal(center, kept[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", [Linf(), L2()], ids=str)
def test_half_precision_is_projected_in_float32(norm: Linf | L2, dtype: torch.dtype) -> None:
    center = torch.rand(3, 1, 2, 2, generator=random.generator("half")).to(dtype)
    assert BallInBox(norm, 0.1).around(center)(center + 1).dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float32, 1e-30), (torch.float32, 1e-45), (torch.float64, 1e-310)],
)
def test_l2_steepest_of_the_smallest_gradients_has_length_one(
    dtype: torch.dtype, size: float
) -> None:
    g = torch.zeros(3, 1, 2, 2, dtype=dtype)
    g[0], g[1, 0, 0, 0] = size, -size
    step = L2().steepest(g)
    assert L2().size(step).tolist() == pytest.approx([1, 1, 0], rel=1e-6)
    assert float(step[1, 0, 0, 0]) == -1


def test_l2_projection_of_zero_onto_a_ball_is_zero() -> None:
    d = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    assert torch.equal(L2().project(d, torch.tensor([0.5, 0.0], dtype=torch.float64)), d)


def test_a_number_is_better_than_a_held_nan_and_nan_is_never_better() -> None:
    nan = float("nan")

    def kept(*values: float) -> Kept:
        n = len(values)
        return Kept(torch.rand(n, 1, 1, 1), torch.tensor(values), torch.zeros(n, dtype=torch.bool))

    new, held = kept(1, 2, 3, nan, nan), kept(2, 2, nan, 1, nan)
    better = LowestValue().better(new, held, new.x)
    assert better.tolist() == [True, False, True, False, False]


def test_last_holds_the_newest_point() -> None:
    old = Kept(torch.zeros(2, 1, 1, 1), torch.zeros(2), torch.ones(2, dtype=torch.bool))
    new = Kept(torch.ones(2, 1, 1, 1), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    assert Last().update(new, old, old.x) is new
