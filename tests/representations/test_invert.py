"""Inversion: the image behind an embedding, where that is known."""

import pytest
import torch

from notbugs.core import random
from notbugs.models import build, frozen
from notbugs.representations import inversion, invert, relative_error


def problem(n=6):
    keys = random.row_keys(n, "invert")
    matrix = random.normal(random.row_keys(16, "m"), (4,)) / 4
    x = random.uniform(keys, (1, 4, 4))
    start = random.uniform(random.fold(keys, "start"), (1, 4, 4))
    return keys, (lambda images: images.flatten(1) @ matrix), x, start


def test_a_linear_representation_is_reached_inside_the_box() -> None:
    keys, embed, x, start = problem()
    found = invert(embed, embed(x), start, solver=inversion(200, 0.5, schedule="cosine"), keys=keys)
    assert float(relative_error(found, embed(x)).max()) < 0.01
    assert float(found.x.min()) >= 0
    assert float(found.x.max()) <= 1
    torch.testing.assert_close(
        found.value, torch.linalg.vector_norm(embed(found.x) - embed(x), dim=1)
    )
    # What the representation does not hold stays as it was at the start.
    assert float((found.x - start).norm()) < float((x - start).norm())


def test_a_shrinking_step_gets_closer_than_a_constant_one() -> None:
    keys, embed, x, start = problem()
    ends = [
        invert(embed, embed(x), start, solver=inversion(60, 0.5, schedule=s), keys=keys).value
        for s in ("constant", "cosine")
    ]
    assert float(ends[1].mean()) < float(ends[0].mean())


def test_bad_input_is_explained() -> None:
    keys, embed, x, start = problem()
    with pytest.raises(ValueError, match=r"`target` must have 6 rows, one a start image; got 2"):
        invert(embed, embed(x)[:2], start, solver=inversion(2, 0.1), keys=keys)
    with pytest.raises(ValueError, match=r"`start` must lie in \[0, 1\]"):
        invert(embed, embed(x), start + 2, solver=inversion(2, 0.1), keys=keys)
    with pytest.raises(ValueError, match=r"`target` must have shape \(1, 4\).*same `embed`"):
        # One column would be subtracted from all four without a word.
        invert(embed, embed(x)[:, :1], start, solver=inversion(2, 0.1), keys=keys)
    spoilt = embed(x).index_fill(0, torch.tensor([2, 4]), float("nan"))
    with pytest.raises(ValueError, match=r"`target` must be finite; got NaN.*first in row 2"):
        invert(embed, spoilt, start, solver=inversion(2, 0.1), keys=keys)
    with pytest.raises(ValueError, match=r"`start` must be finite"):
        invert(embed, embed(x), start / 0, solver=inversion(2, 0.1), keys=keys)
    with pytest.raises(ValueError, match=r"`steps` must be at least 1; got 0"):
        inversion(0, 0.1)
    with pytest.raises(ValueError, match=r"`step_size` must be a finite number above 0"):
        inversion(10, 0.0)
    with pytest.raises(ValueError, match=r"Unknown schedule 'cosin'. Did you mean 'cosine'"):
        inversion(10, 0.1, schedule="cosin")


def test_the_start_is_where_it_begins_and_is_kept_where_it_is_already_right() -> None:
    keys, embed, x, start = problem()
    before = start.clone()
    at_goal = invert(embed, embed(start), start, solver=inversion(5, 0.5), keys=keys)
    assert torch.equal(at_goal.x, start)
    assert float(at_goal.value.max()) == 0.0
    short = invert(embed, embed(x), start, solver=inversion(1, 1e-3), keys=keys)
    assert float((short.x - start).flatten(1).norm(dim=1).max()) <= 1.001e-3
    assert torch.equal(start, before)


def test_rows_do_not_depend_on_their_neighbours_and_never_end_worse_than_they_began() -> None:
    model = build("cnn", shape=(1, 8, 8), classes=3, seed=0, options={"width": 4, "hidden": 8})
    keys = random.row_keys(10, "net")
    x = random.uniform(keys, (1, 8, 8))
    start = random.uniform(random.fold(keys, "start"), (1, 8, 8))
    solver = inversion(15, 0.2)
    with frozen(model):
        target = model.embed(x).detach()
        whole = invert(model.embed, target, start, solver=solver, keys=keys)
        for rows in torch.arange(10).flip(0).split(4):
            part = invert(model.embed, target[rows], start[rows], solver=solver, keys=keys[rows])
            torch.testing.assert_close(part.x, whole.x[rows], atol=1e-5, rtol=0)
        first = torch.linalg.vector_norm(model.embed(start) - target, dim=1)
    assert bool((whole.value < first).all())
    assert all(p.grad is None for p in model.parameters())


def test_relative_error_is_in_units_of_the_target() -> None:
    keys, embed, x, start = problem()
    target = embed(x)
    found = invert(embed, target, start, solver=inversion(3, 0.1), keys=keys)
    torch.testing.assert_close(relative_error(found, target), found.value / target.norm(dim=1))
    assert bool(relative_error(found, 0 * target).isfinite().all())
