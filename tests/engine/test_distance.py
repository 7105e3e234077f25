"""Any distance as a set, a penalty and the measure of a step."""

import pytest
import torch

from notbugs.core import random
from notbugs.engine import (
    L2,
    Adam,
    AtCenter,
    Box,
    Draw,
    Linf,
    Paced,
    Perceptual,
    Solver,
    WithinDistance,
)
from notbugs.perception import ColourDistance, SSIMDistance

N, SHAPE = 6, (1, 8, 8)
DISTANCES = {
    "ssim": (SSIMDistance(), 0.1),
    "colour": (ColourDistance(), 2.0),
    "l2": (lambda x, y: L2().size(x - y), 0.5),
}
EACH = pytest.mark.parametrize("name", DISTANCES)


def images(name, n=N, kind=torch.float64):
    return random.uniform(random.row_keys(n, name), SHAPE, kind)


@EACH
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("corrections", [0, 1, 4])
def test_what_is_projected_is_within_and_what_is_within_stays(name, kind, corrections) -> None:
    distance, bound = DISTANCES[name]
    within, center = WithinDistance(distance, bound, corrections), images("center", kind=kind)
    x = center + (images("far", kind=kind) - 0.5) * torch.linspace(0, 4, N, dtype=kind).reshape(
        -1, 1, 1, 1
    )
    found = within.project(x, center)
    assert bool((distance(found, center) <= bound).all())
    assert within.violation(found, center).tolist() == [0] * N
    assert torch.equal(found[0], center[0])
    assert torch.equal(within.project(found, center), found)
    assert bool((within.violation(x, center)[2:] > 0).all())
    far = distance(x.clamp(0, 1), center) > bound
    assert int(far.sum()) >= 3
    assert bool((distance(found, center)[far] > 0.95 * bound).all())
    if corrections:
        return
    # On the line to where it was, and nearly at the bound.
    assert bool((distance(found, center)[far] > 0.995 * bound).all())
    share = L2().size(found - center) / L2().size(x.clamp(0, 1) - center).clamp(min=1e-9)
    line = center + share.reshape(-1, 1, 1, 1) * (x.clamp(0, 1) - center)
    torch.testing.assert_close(found, line, atol=1e-5, rtol=0)


def test_for_ssim_corrections_find_a_nearer_point_than_the_line() -> None:
    distance, bound = DISTANCES["ssim"]
    center, x = images("center"), images("far")
    line, bent = (WithinDistance(distance, bound, k).project(x, center) for k in (0, 4))
    nearer = L2().size(bent - x) / L2().size(line - x)
    assert bool((nearer < 0.98).all())


@pytest.mark.parametrize("corrections", [0, 4])
def test_a_distance_without_gradients_is_bisected(corrections) -> None:
    center, x = images("center"), images("far")

    def blind(a, b):
        return SSIMDistance()(a.detach(), b)

    found = WithinDistance(blind, 0.1, corrections).project(x, center)
    assert torch.equal(found, WithinDistance(SSIMDistance(), 0.1, 0).project(x, center))


@pytest.mark.parametrize("corrections", [0, 4])
def test_in_l2_it_is_the_projection_onto_the_ball(corrections) -> None:
    distance, bound = DISTANCES["l2"]
    center = 0.5 + 0.01 * images("center")
    x = center + 0.3 * (images("far") - 0.5)
    found = WithinDistance(distance, bound, corrections, halvings=30).project(x, center)
    ball = center + L2().project(x - center, torch.full((N,), bound, dtype=torch.float64))
    torch.testing.assert_close(found, ball, atol=1e-3, rtol=0)


def test_a_distance_that_is_no_number_leaves_the_centre() -> None:
    center = images("center")
    within = WithinDistance(lambda x, y: L2().size(x - y) * float("nan"), 0.1)
    assert torch.equal(within.project(images("far"), center), center)


@EACH
def test_samples_are_within(name) -> None:
    distance, bound = DISTANCES[name]
    center = images("center")
    found = WithinDistance(distance, bound).sample(center, random.row_keys(N, "s"))
    assert bool((distance(found, center) <= bound).all())
    assert not torch.equal(found, center)


def test_the_penalty_is_the_formula_and_adds_and_scales() -> None:
    distance, _ = DISTANCES["l2"]
    x, center, draw = images("x"), images("center"), Draw(random.row_keys(N, "d"))
    apart, weight = distance(x, center), torch.linspace(0, 2, N, dtype=torch.float64)
    bound = float(apart.median())
    context = {"x": center}
    plain = Perceptual(distance)(x, context, draw)
    assert plain.success is None
    torch.testing.assert_close(plain.value, apart)
    penalty = Perceptual(distance, bound)
    found = penalty(x, {**context, "weight": weight}, draw)
    torch.testing.assert_close(found.value, weight * (apart - bound).clamp(min=0))
    assert torch.equal(found.success, apart <= bound)
    both = (3 * Perceptual(distance) + penalty)(x, context, draw)
    torch.testing.assert_close(both.value, 3 * apart + (apart - bound).clamp(min=0))
    assert torch.equal(both.success, apart <= bound)
    with pytest.raises(KeyError, match="per-row tensor 'x'"):
        penalty(x, None, draw)


def test_as_an_objective_it_brings_an_image_back() -> None:
    center, start = images("center"), images("x")
    solver = Solver(within=Box(), rule=Adam(0.02), max_steps=60)
    found = solver.minimise(
        Perceptual(SSIMDistance()),
        start,
        {"x": center},
        keys=random.row_keys(N, "k"),
        start=AtCenter(),
    )
    assert bool((found.value < 0.2 * SSIMDistance()(start, center)).all())


@pytest.mark.parametrize("norm", [L2(), Linf()], ids=str)
@pytest.mark.parametrize("name", ["ssim", "l2"])
def test_steps_are_as_long_as_the_distance_says(norm, name) -> None:
    distance, bound = DISTANCES[name]
    center = 0.3 + 0.4 * images("center")
    length, seen = 0.2 * bound, []

    def observe(info) -> None:
        seen.append(path[-1])

    path = []

    def followed(x, y):
        path.append(x.detach())
        return distance(x, y)

    solver = Solver(within=Box(), rule=Paced(norm, distance, length, last=0.5), max_steps=8)
    solver.minimise(
        Perceptual(followed), center, {"x": images("x")}, keys=random.row_keys(N, "k"),
        observe=observe,
    )  # fmt: skip
    for step in range(1, 8):
        wanted = length * 0.5 ** (step / 8)
        took = distance(seen[step + 1], seen[step])
        torch.testing.assert_close(took, torch.full_like(took, wanted), rtol=0.35, atol=0)


def test_without_a_gradient_it_stays() -> None:
    center = images("center")
    solver = Solver(within=Box(), rule=Paced(L2(), SSIMDistance(), 0.1), max_steps=3)
    found = solver.minimise(
        Perceptual(SSIMDistance(), 1.9), center, {"x": center}, keys=random.row_keys(N, "k")
    )
    assert torch.equal(found.x, center)
    assert found.zero_grads.tolist() == [3] * N


def test_bad_numbers_are_refused() -> None:
    distance = SSIMDistance()
    with pytest.raises(ValueError, match=r"`bound` must be a finite number above 0; got 0"):
        WithinDistance(distance, 0.0)
    with pytest.raises(ValueError, match=r"`corrections` must be at least 0; got -1"):
        WithinDistance(distance, 0.1, corrections=-1)
    with pytest.raises(ValueError, match=r"`halvings` must be at least 1; got 0"):
        WithinDistance(distance, 0.1, halvings=0)
    with pytest.raises(ValueError, match=r"`bound` must be .* at least 0, or None; got -1"):
        Perceptual(distance, -1.0)
    with pytest.raises(ValueError, match=r"`length` must be a finite number above 0"):
        Paced(L2(), distance, 0.0)
    with pytest.raises(ValueError, match=r"`last` must be a finite number above 0"):
        Paced(L2(), distance, 0.1, last=0.0)
