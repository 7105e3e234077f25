import math

import pytest
import torch

import nets
from nets import in_parts, said, small_net
from notbugs.attacks.deepfool import deepfool
from notbugs.core import random
from notbugs.engine import L1, L2, Linf

N = 16
EACH_NORM = pytest.mark.parametrize("norm", [L2(), Linf()], ids=["l2", "linf"])


def linear(classes=4):
    return nets.linear(classes)


def grey():
    return 0.45 + 0.1 * random.uniform(random.row_keys(N, "grey"), (1, 4, 4))


def net():
    return small_net(N)


@EACH_NORM
@pytest.mark.parametrize("classes", [2, 4])
def test_one_step_reaches_the_nearest_boundary_of_a_linear_model(norm, classes) -> None:
    model, x = linear(classes), grey()
    y, w = said(model, x), model.body.layer.weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    dual = norm.dual((w[y][:, None] - w[None]).reshape(-1, 1, 4, 4)).reshape(N, classes)
    gap = z.gather(1, y[:, None]) - z
    best = torch.where(dual > 0, gap / dual, math.inf).amin(dim=1)
    found = deepfool(norm)(model, x, y)
    assert bool(found.success.all())
    inside = ((found.x_adv > 0) & (found.x_adv < 1)).flatten(1).all(dim=1)
    assert int(inside.sum()) >= N / 4
    torch.testing.assert_close(found.distance[inside], 1.02 * best[inside], rtol=1e-4, atol=1e-6)
    assert bool((found.steps[inside] == 1).all())


@EACH_NORM
def test_a_net_falls_in_few_steps_near_its_boundary(norm) -> None:
    model, x, y = net()
    found = deepfool(norm)(model, x, y)
    assert found.attack_success_rate == 100
    assert float(found.steps.float().median()) <= 4
    back = x + 0.9 * (found.x_adv - x)
    assert float((said(model, back) == y).float().mean()) > 0.8


def test_fewer_candidates_cost_fewer_gradients() -> None:
    model, x, y = net()
    few, all_of_them = deepfool(L2(), candidates=1)(model, x, y), deepfool(L2())(model, x, y)
    assert few.attack_success_rate == 100
    assert few.backwards / int(few.steps.sum() + N) <= 2
    assert few.backwards < all_of_them.backwards
    assert float(few.distance.mean()) > 0.99 * float(all_of_them.distance.mean())


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole, parts = in_parts(deepfool(L2()), model, x, y, 5)
    for part, again in parts:
        torch.testing.assert_close(again.x_adv, whole.x_adv[part], atol=1e-5, rtol=0)
        assert torch.equal(again.success, whole.success[part])


def test_a_flat_model_stays_where_it_is_and_wrong_rows_are_untouched() -> None:
    model, x = linear(), grey()
    wrong = (said(model, x) + 1) % 4
    assert bool((deepfool(L2())(model, x, wrong).distance == 0).all())
    with torch.no_grad():
        model.body.layer.weight.zero_()
        model.body.layer.bias.copy_(torch.arange(4.0))
    found = deepfool(L2(), steps=3)(model, x, said(model, x))
    assert not bool(found.success.any())
    assert bool((found.x_adv == x).all())
    assert bool((found.zero_grads == 3).all())


def test_bad_options_are_refused() -> None:
    model, x = linear(), grey()
    y = said(model, x)
    with pytest.raises(ValueError, match="nearest class"):
        deepfool(L2())(model, x, y, targets=(y + 1) % 4)
    with pytest.raises(ValueError, match="overshoot"):
        deepfool(L2(), overshoot=-0.1)
    with pytest.raises(ValueError, match="candidates"):
        deepfool(L1(), candidates=0)
