import math

import pytest
import torch

from nets import linear, small_net
from notbugs.attacks.lbfgs import lbfgs
from notbugs.core import random

N = 5


def net():
    return small_net(N)


@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_is_broken_at_its_distance(targeted) -> None:
    classes = 2 if targeted else 3
    model = linear(classes)
    x = 0.4 + 0.2 * random.uniform(random.row_keys(N, "grey"), (1, 4, 4))
    w = model.body.layer.weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    y = z.argmax(dim=1)
    apart = torch.linalg.vector_norm(w[y][:, None] - w[None], dim=2)
    best = torch.where(apart > 0, (z.gather(1, y[:, None]) - z) / apart, math.inf).amin(dim=1)
    found = lbfgs()(model, x, y, targets=1 - y if targeted else None)
    assert bool(found.success.all())
    inside = ((found.x_adv > 0) & (found.x_adv < 1)).flatten(1).all(dim=1)
    assert int(inside.sum()) >= 2
    ratio = (found.distance / best)[inside]
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.05


def test_a_net_falls_and_wrong_rows_are_untouched() -> None:
    model, x, y = net()
    found = lbfgs(steps=20, search_steps=7)(model, x, y)
    assert found.attack_success_rate == 100
    assert bool((found.distance < 1).all())
    assert found.steps.shape == found.zero_grads.shape == (N,)
    free = lbfgs(steps=20)(model, x, (y + 1) % 5)
    assert bool((free.distance == 0).all())
    assert free.backwards == 0


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole = lbfgs(steps=10, search_steps=4)(model, x, y)
    part = torch.tensor([3, 0])
    again = lbfgs(steps=10, search_steps=4)(model, x[part], y[part])
    assert torch.equal(again.x_adv, whole.x_adv[part])
    assert torch.equal(again.success, whole.success[part])


def test_rows_that_never_fall_keep_their_best_try() -> None:
    model, x, y = net()
    found = lbfgs(steps=2, search_steps=1, initial_c=1e-6)(model, x, y)
    assert not bool(found.success.any())
    assert bool(found.loss.isfinite().all())


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        lbfgs(steps=0)
    with pytest.raises(ValueError, match="search_steps"):
        lbfgs(search_steps=0)
    with pytest.raises(ValueError, match="initial_c"):
        lbfgs(initial_c=-1.0)


def test_a_success_that_overshoots_does_not_end_the_search() -> None:
    """Near the boundary, and far from it, the search goes on to the constants that matter."""
    model = linear(2)
    x = torch.full((2, 1, 4, 4), 0.5)
    w = model.body.layer.weight.detach()
    across = (w[1] - w[0]).reshape(1, 4, 4)
    with torch.no_grad():
        lead = model.logits(x)[0, 1] - model.logits(x)[0, 0]
    unit = across / across.norm()
    x = x - (lead / across.norm() - torch.tensor([0.01, 0.4]))[:, None, None, None] * unit
    y = torch.ones(2, dtype=torch.int64)
    found = lbfgs()(model, x, y)
    assert bool(found.success.all())
    assert found.distance.tolist() == pytest.approx([0.01, 0.4], rel=0.02)
