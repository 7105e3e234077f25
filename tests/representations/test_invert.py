import pytest
import torch

from notbugs.core import random
from notbugs.representations import inversion, invert, relative_error


def problem(n=6):
    keys = random.row_keys(n, "invert")
    matrix = random.normal(random.row_keys(16, "m"), (4,)) / 4
    x = random.uniform(keys, (1, 4, 4))
    start = random.uniform(random.fold(keys, "start"), (1, 4, 4))
    return keys, (lambda images: images.flatten(1) @ matrix), x, start


def test_a_linear_representation_is_reached_inside_the_box():
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


def test_a_shrinking_step_gets_closer_than_a_constant_one():
    keys, embed, x, start = problem()
    ends = [
        invert(embed, embed(x), start, solver=inversion(60, 0.5, schedule=s), keys=keys).value
        for s in ("constant", "cosine")
    ]
    assert float(ends[1].mean()) < float(ends[0].mean())


def test_bad_input_is_explained():
    keys, embed, x, start = problem()
    with pytest.raises(ValueError, match=r"`target` must have 6 rows, one a start image; got 2"):
        invert(embed, embed(x)[:2], start, solver=inversion(2, 0.1), keys=keys)
    with pytest.raises(ValueError, match=r"`start` must lie in \[0, 1\]"):
        invert(embed, embed(x), start + 2, solver=inversion(2, 0.1), keys=keys)
