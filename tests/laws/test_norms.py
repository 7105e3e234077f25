"""Laws that every norm obeys; a new norm joins by one line in NORMS."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notbugs.core import random
from notbugs.engine import L2, NORMS, BallInBox, Linf

EACH = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
RADII = st.floats(0.01, 3.0)
SEEDS = st.integers(0, 2**32)


def perturbations(seed: int, n: int = 5, scale: float = 1.0) -> torch.Tensor:
    return scale * random.normal(random.row_keys(n, seed), (2, 3, 3), torch.float64)


@EACH
@given(seed=SEEDS, radius=RADII)
@settings(max_examples=30, deadline=None)
def test_projection_leaves_the_inside_alone(norm, seed, radius) -> None:
    d = perturbations(seed)
    d = 0.99 * d / norm.size(d)[:, None, None, None] * radius
    assert torch.equal(norm.project(d, torch.full((5,), radius, dtype=d.dtype)), d)


@EACH
@given(seed=SEEDS, radius=RADII)
@settings(max_examples=30, deadline=None)
def test_projection_from_outside_lands_on_the_boundary_and_stays(norm, seed, radius) -> None:
    d = perturbations(seed)
    d = 3.0 * d / norm.size(d)[:, None, None, None] * radius
    r = torch.full((5,), radius, dtype=d.dtype)
    once = norm.project(d, r)
    torch.testing.assert_close(norm.size(once), r)
    torch.testing.assert_close(norm.project(once, r), once)


@EACH
def test_projection_is_the_nearest_point_of_the_ball(norm) -> None:
    d, r = perturbations(1, scale=2.0), torch.full((5,), 0.7, dtype=torch.float64)
    near = (norm.project(d, r) - d).flatten(1).norm(dim=1)
    for seed in range(200):
        other = norm.sample(d, r, random.row_keys(5, "rival", seed))
        assert bool(((other - d).flatten(1).norm(dim=1) >= near - 1e-12).all())


@EACH
def test_steepest_attains_the_dual_norm_with_unit_size(norm) -> None:
    g = perturbations(2)
    step = norm.steepest(g)
    torch.testing.assert_close((g * step).flatten(1).sum(dim=1), norm.dual(g))
    torch.testing.assert_close(norm.size(step), torch.ones(5, dtype=g.dtype))


@EACH
def test_no_direction_of_unit_size_beats_steepest(norm) -> None:
    g = perturbations(3)
    for seed in range(100):
        d = norm.sample(g, torch.ones(5, dtype=g.dtype), random.row_keys(5, "d", seed))
        assert bool(((g * d).flatten(1).sum(dim=1) <= norm.dual(g) + 1e-12).all())


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zero_and_tiny_gradients_stay_finite(norm, dtype) -> None:
    g = torch.zeros(3, 1, 4, 4, dtype=dtype)
    g[1] = torch.finfo(dtype).smallest_normal
    g[2, 0, 0, 0] = 1e-7
    step = norm.steepest(g)
    assert bool(step.isfinite().all())
    assert bool((step[0] == 0).all())
    torch.testing.assert_close(norm.size(step)[1:], torch.ones(2, dtype=step.dtype))


@EACH
def test_half_precision_is_measured_in_float32(norm) -> None:
    d = torch.full((1, 1, 100, 100), 1e-3, dtype=torch.float16)
    assert norm.size(d).dtype == torch.float32
    expected = {"linf": 1e-3, "l2": 0.1, "l1": 10.0}[norm.name]
    assert float(norm.size(d)) == pytest.approx(expected, rel=2e-3)


@EACH
@given(seed=SEEDS, radius=RADII)
@settings(max_examples=30, deadline=None)
def test_ball_in_box_is_feasible_fixed_inside_and_idempotent(norm, seed, radius) -> None:
    center = random.uniform(random.row_keys(5, seed, "c"), (2, 3, 3), torch.float64)
    within = BallInBox(norm, radius)
    x = within.project(center + perturbations(seed, scale=2.0), center)
    assert float(within.violation(x, center).max()) <= 1e-12
    torch.testing.assert_close(within.project(x, center), x)


def test_linf_ball_in_box_is_the_exact_projection() -> None:
    center = random.uniform(random.row_keys(4, "c"), (1, 2, 2), torch.float64)
    y = center + perturbations(4, n=4)[:, :1, :2, :2]
    x = BallInBox(Linf(), 0.3).project(y, center)
    low, high = (center - 0.3).clamp(min=0), (center + 0.3).clamp(max=1)
    assert torch.equal(x, torch.minimum(torch.maximum(y, low), high))


def test_l2_sample_is_uniform_in_the_ball_not_on_its_sphere() -> None:
    like = torch.zeros(20_000, 1, 2, 2, dtype=torch.float64)
    d = L2().sample(like, torch.ones(20_000, dtype=torch.float64), random.row_keys(20_000, "u"))
    length = L2().size(d)
    # P(length <= r) = r^4 in four dimensions.
    for r in (0.5, 0.8, 0.95):
        share = float((length <= r).double().mean())
        assert share == pytest.approx(r**4, abs=4 * math.sqrt(r**4 * (1 - r**4) / 20_000))


def test_linf_sample_is_uniform_in_the_cube() -> None:
    d = Linf().sample(torch.zeros(5000, 1, 2, 2), torch.full((5000,), 0.5), random.row_keys(5000))
    assert float(d.abs().max()) <= 0.5
    assert float((d.abs() < 0.25).float().mean()) == pytest.approx(0.5, abs=0.02)
