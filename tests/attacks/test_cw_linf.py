import pytest
import torch
from torch import nn

from nets import in_parts, linear, small_net
from notbugs.attacks.cw_common import TRIES
from notbugs.attacks.cw_linf import cw_linf
from notbugs.attacks.cw_objectives import goal
from notbugs.core import random
from notbugs.models import wrap

N = 6


def net(n=N):
    return small_net(n)


@pytest.mark.parametrize("side", [4, 96])
@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_is_broken_near_its_distance(targeted, side) -> None:
    model = linear(side=side)
    x = 0.35 + 0.3 * random.uniform(random.row_keys(N, "grey"), (1, side, side))
    w = model.body.layer.weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    y, best = z.argmax(dim=1), (z[:, 0] - z[:, 1]).abs() / (w[0] - w[1]).abs().sum()
    found = cw_linf(steps=40, shrink=0.98)(model, x, y, targets=1 - y if targeted else None)
    assert bool(found.success.all())
    seen = best > (0.02 if side == 4 else 1e-4)  # below, steps and limits are coarse
    assert int(seen.sum()) > N / 2
    ratio = (found.distance / best)[seen]
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.05


def test_a_short_run_moves_pixels_at_the_edges_of_the_box() -> None:
    model = linear()
    x = (random.uniform(random.row_keys(N, "edges"), (1, 4, 4)) > 0.5).float()
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    found = cw_linf(steps=10, shrink=0.8)(model, x, y)
    assert found.attack_success_rate == 100


def test_whole_levels_are_whole_and_can_be_one_bit() -> None:
    model, x, y = net()
    x = (x * 255).round() / 255
    found = cw_linf(steps=40, shrink=0.7, levels=255)(model, x, y)
    level = found.x_adv * 255
    torch.testing.assert_close(level, level.round(), atol=1e-3, rtol=0)
    assert found.attack_success_rate == 100
    plain = cw_linf(steps=40, shrink=0.7)(model, x, y)
    assert float(found.distance.mean()) < 1.2 * float(plain.distance.mean()) + 1 / 255


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole, parts = in_parts(cw_linf(steps=15, shrink=0.6), model, x, y, 4)
    for part, again in parts:
        torch.testing.assert_close(again.distance, whole.distance[part], atol=1e-4, rtol=1e-2)
        assert torch.equal(again.success, whole.success[part])


def test_rows_that_never_fall_keep_their_best_try() -> None:
    model, x, _ = net()
    sure = nn.Linear(64, 5)  # one class wherever the image goes
    with torch.no_grad():
        sure.bias.copy_(torch.tensor([1e3, 0, 0, 0, 0]))
    model = wrap(nn.Sequential(nn.Flatten(), sure), shape=(1, 8, 8), classes=5, embedding="0")
    y = torch.zeros(N, dtype=torch.int64)
    found = cw_linf(steps=3, largest_c=0.5)(model, x, y)
    assert not bool(found.success.any())
    with torch.no_grad():
        at_start = goal("f6", model.logits(x), y, None, 0.0)
        torch.testing.assert_close(found.loss, goal("f6", model.logits(found.x_adv), y, None, 0.0))
    assert bool((found.loss < at_start).all())
    assert bool((found.steps > 0).all())
    assert found.backwards <= 3 * TRIES * N


def test_images_that_need_no_change_are_returned_as_they_are() -> None:
    model, x, y = net()
    found = cw_linf(steps=5)(model, x, (y + 1) % 5)
    assert bool((found.distance == 0).all())
    assert found.backwards == 0


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="shrink"):
        cw_linf(shrink=1.0)
    with pytest.raises(ValueError, match="growth"):
        cw_linf(growth=1.0)
    with pytest.raises(ValueError, match="largest_c"):
        cw_linf(initial_c=1.0, largest_c=0.5)
    with pytest.raises(ValueError, match="levels"):
        cw_linf(levels=-1)


def test_its_loss_is_the_objective_at_the_image_that_it_returns() -> None:
    model, x, y = net()
    found = cw_linf(steps=20, shrink=0.7)(model, x, y)
    with torch.no_grad():
        value = goal("f6", model.logits(found.x_adv), y, None, 0.0)
    torch.testing.assert_close(found.loss, value, atol=1e-4, rtol=1e-3)


def test_searches_end_and_images_off_the_grid_are_refused() -> None:
    model, x, y = net()
    x = (x * 65535).round() / 65535
    found = cw_linf(steps=10, levels=65535)(model, x, y)
    assert found.attack_success_rate > 0
    with pytest.raises(ValueError, match=r"`x` must be whole levels of 1/255"):
        cw_linf(levels=255)(model, x, y)
    with pytest.raises(ValueError, match="`shrink`"):
        cw_linf(shrink=0.99999999)
    for options in ({"growth": 1 + 1e-9}, {"largest_c": float("inf")}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            cw_linf(**options)
