"""Random moves of images: what they do exactly, and that rows do not depend on each other."""

import math

import pytest
import torch

from notbugs.core import random
from notbugs.engine import (
    L2,
    AbstractObjective,
    Box,
    Chain,
    Draw,
    Evaluation,
    Jitter,
    LowestValue,
    Pad,
    Rotate,
    Scale,
    Solver,
    Steepest,
    Transformed,
    robust_view,
)
from notbugs.engine.transforms import rotated

EACH = pytest.mark.parametrize(
    "transform",
    [Pad(2), Jitter(2), Scale(0.8, 1.3), Rotate(30.0), robust_view(32)],
    ids=["pad", "jitter", "scale", "rotate", "chain"],
)


def images(shape=(2, 9, 7), n=6):
    return random.uniform(random.row_keys(n, "images"), shape, torch.float64)


def keys(n=6):
    return random.row_keys(n, "moves")


@EACH
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (2, 1, 1)], ids=str)
def test_rows_are_apart_repeatable_and_linear_in_the_image(transform, shape) -> None:
    x = images(shape)
    whole = transform(x, keys())
    assert torch.equal(whole, transform(x, keys()))
    torch.testing.assert_close(transform(x[2:4], keys()[2:4]), whole[2:4])
    assert -1e-12 <= float(whole.min()) <= float(whole.max()) <= 1 + 1e-12
    half = transform(0.5 * x + 0.25, keys())  # grey outside, so that this is linear
    torch.testing.assert_close(half, 0.5 * whole + 0.25)
    if not isinstance(transform, Pad):
        assert whole.shape == x.shape
        assert whole.dtype == x.dtype
    grey = torch.full_like(x, 0.5)
    torch.testing.assert_close(transform(grey, keys()), transform(grey, keys()) * 0 + 0.5)


@EACH
def test_gradients_are_those_of_the_moved_image(transform) -> None:
    x = images((1, 5, 4), n=2)
    assert torch.autograd.gradcheck(lambda y: transform(y, keys(2)), x.requires_grad_())


def test_no_amount_changes_nothing() -> None:
    x = images()
    for transform in (Pad(0), Jitter(0), Scale(1.0, 1.0), Rotate(0.0), Chain(())):
        torch.testing.assert_close(transform(x, keys()), x, rtol=0, atol=1e-12)


def test_jitter_moves_by_whole_pixels_up_to_its_limit_both_ways() -> None:
    x = torch.zeros(400, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    moved = Jitter(2, fill=0.0)(x, random.row_keys(400, "jitter"))
    places = moved.flatten(1).argmax(dim=1)
    assert torch.equal(moved.flatten(1).amax(dim=1), torch.ones(400))
    assert set((places // 9).tolist()) == set((places % 9).tolist()) == {2, 3, 4, 5, 6}


def test_a_scale_of_two_doubles_distances_from_the_middle() -> None:
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 4, 6] = 1
    moved = Scale(2.0, 2.0, fill=0.0)(x, keys(1))
    assert divmod(int(moved.argmax()), 9) == (4, 8)
    assert float(moved.max()) == 1.0


def test_a_quarter_turn_is_exact_and_positive_angles_go_clockwise() -> None:
    x = images((2, 9, 9), n=3)
    middle = (slice(None), slice(None), slice(3, 6), slice(3, 6))
    for sign in (1, -1):
        turned = rotated(x, torch.full((3,), sign * math.pi / 2), 0.5)
        torch.testing.assert_close(turned[middle], x.rot90(-sign, (2, 3))[middle])


def test_small_turns_move_points_along_the_circle() -> None:
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[0, 0, 20, 35] = 1
    angle = math.radians(20)
    turned = rotated(x, torch.tensor([angle]), 0.0)[0, 0]
    place = torch.arange(41, dtype=torch.float64)
    down, across = (turned.sum(dim=1) * place).sum(), (turned.sum(dim=0) * place).sum()
    assert float(turned.sum()) == pytest.approx(1)
    assert float(down) == pytest.approx(20 + 15 * math.sin(angle), abs=0.05)
    assert float(across) == pytest.approx(20 + 15 * math.cos(angle), abs=0.05)


def test_a_pad_in_front_keeps_what_would_leave_the_frame() -> None:
    """Out by one jitter and back by the other: kept only where there was a border."""

    def away(x, row_keys):
        return x.roll(3, dims=3) if x.shape[3] > 7 else torch.cat([x[..., :3] * 0, x[..., :-3]], 3)

    def back(x, row_keys):
        return x.roll(-3, dims=3) if x.shape[3] > 7 else torch.cat([x[..., 3:], x[..., :3] * 0], 3)

    x = images()
    assert torch.equal(Chain((Pad(3), away, back))(x, keys()), x)
    assert not torch.equal(Chain((away, back))(x, keys()), x)


class Sum(AbstractObjective):
    """The sum of the left column: a jitter changes it."""

    def __call__(self, x, context, draw) -> Evaluation:
        return Evaluation(x[..., 0].flatten(1).sum(dim=1))


def test_draws_are_fresh_while_stepping_and_fixed_when_judged() -> None:
    seen = []

    def watched(x, row_keys):
        seen.append((torch.is_grad_enabled(), row_keys.tolist()))
        return Jitter(2)(x, row_keys)

    objective, x = Transformed(Sum(), watched, samples=2), images()
    solver = Solver(Box(), Steepest(L2(), 0.1), 4, keep=LowestValue())
    found = solver.minimise(objective, x, keys=keys())
    stepping = [tuple(k) for with_grad, k in seen if with_grad]
    judging = [tuple(k) for with_grad, k in seen if not with_grad]
    assert len(set(stepping)) == 8
    assert len(set(judging)) == 2
    with torch.no_grad():
        again = objective(found.x, None, Draw(random.fold(keys(), "fixed")))
    torch.testing.assert_close(again.value, found.value)
    part = solver.minimise(objective, x[1:3], keys=keys()[1:3])
    torch.testing.assert_close(part.x, found.x[1:3])


def test_judged_plain_looks_at_the_image_itself() -> None:
    x = images()
    objective = Transformed(Sum(), Jitter(2), judged_plain=True)
    with torch.no_grad():
        assert torch.equal(
            objective(x, None, Draw(keys())).value, Sum()(x, None, Draw(keys())).value
        )
    assert not torch.equal(objective(x, None, Draw(keys())).value, x[..., 0].flatten(1).sum(dim=1))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`pixels` must be at least 0; got -1"):
        Pad(-1)
    with pytest.raises(ValueError, match=r"`pixels` must be at least 0; got -2"):
        Jitter(-2)
    with pytest.raises(ValueError, match=r"`low` must be above 0 and at most `high`; got 1.2 of 1"):
        Scale(1.2, 1.0)
    with pytest.raises(ValueError, match=r"`degrees` must lie in \[0, 90\]; got 91"):
        Rotate(91)
    with pytest.raises(ValueError, match=r"`fill` must lie in \[0, 1\]; got 2"):
        Jitter(1, fill=2)
    with pytest.raises(ValueError, match=r"`side` must be at least 1; got 0"):
        robust_view(0)
