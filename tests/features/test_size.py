"""Perturbations of exactly one size: for every norm, eps and pair of images."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notbugs.core import random
from notbugs.engine import L2, NORMS, Linf
from notbugs.features import to_size

norms = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))


def images(n, *names, shape=(1, 3, 3)):
    return random.uniform(random.row_keys(n, *names), shape)


@norms
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(1e-3, 1.0), dark=st.booleans())
def test_reached_rows_are_at_eps_and_the_others_truly_cannot(norm, seed, eps, dark) -> None:
    x, x_adv = images(8, seed, "x"), images(8, seed, "adv")
    if dark:  # saturated pixels: much of delta points out of the box
        x = (3 * x - 1).clamp(0, 1)
        x_adv = (x + (x_adv - 0.5)).clamp(0, 1)
    sized = to_size(x, x_adv, norm, eps)
    assert float(sized.x.min()) >= 0
    assert float(sized.x.max()) <= 1
    torch.testing.assert_close(norm.size(sized.x - x), sized.distance)
    assert torch.equal(sized.reached, (sized.distance - eps).abs() <= 0.01 * eps)
    # As far as each row's direction can go: every pixel that moves ends at its wall.
    delta = x_adv - x
    wall = torch.where(delta > 0, 1 - x, x) * (delta != 0)
    limit = norm.size(wall)
    assert bool((sized.reached | (limit < eps * 0.9901)).all())
    # No pixel moves against its direction.
    assert bool(((sized.x - x) * delta >= -1e-6).all())


@norms
def test_rows_do_not_see_each_other(norm) -> None:
    x, x_adv = images(6, "x"), images(6, "adv")
    whole = to_size(x, x_adv, norm, 0.3)
    for i in range(6):
        one = to_size(x[i : i + 1], x_adv[i : i + 1], norm, 0.3)
        torch.testing.assert_close(one.x[0], whole.x[i])


def test_no_perturbation_has_no_direction() -> None:
    x = images(3, "x")
    sized = to_size(x, x.clone(), L2(), 0.5)
    assert not bool(sized.reached.any())
    assert torch.equal(sized.x, x)


def test_one_saturated_pixel_leaves_the_rest_to_the_others() -> None:
    """x = (0.9, 0.5), delta along (1, 1): at L2 0.3 the first pixel stops at 1."""
    x = torch.tensor([[[[0.9, 0.5]]]])
    sized = to_size(x, x + torch.tensor([[[[0.1, 0.1]]]]), L2(), 0.3)
    expected = torch.tensor([[[[1.0, 0.5 + (0.3**2 - 0.1**2) ** 0.5]]]])
    torch.testing.assert_close(sized.x, expected)


def test_bad_arguments_are_explained() -> None:
    x = images(2, "x")
    with pytest.raises(ValueError, match=r"`eps` must be a finite number above 0; got 0"):
        to_size(x, x, Linf(), 0.0)
    with pytest.raises(ValueError, match=r"`x_adv` must have the shape of `x`, \(2, 1, 3, 3\)"):
        inspect.unwrap(to_size)(x, x[:1], Linf(), 0.1)  # as without the tests' shape checks
    with pytest.raises(ValueError, match=r"`x_adv` must lie in \[0, 1\]"):
        to_size(x, x + 1, Linf(), 0.1)
