import pytest
import torch
from torch import nn

from notbugs.attacks.cw_linf import cw_linf
from notbugs.core import random
from notbugs.models import build, wrap

N = 6


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.layer = nn.Flatten(), nn.Linear(16, 2)
        with torch.no_grad():
            self.layer.weight.copy_(random.normal(random.row_keys(2, "w"), (16,)))
            self.layer.bias.zero_()

    def forward(self, x):
        return self.layer(self.flat(x))


def net(n=N):
    model = build("cnn", shape=(1, 8, 8), classes=5, seed=1, options={"width": 4, "hidden": 8})
    x = random.uniform(random.row_keys(n, "net"), (1, 8, 8))
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        return model, x, model.logits(x).argmax(dim=1)


@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_is_broken_near_its_distance(targeted):
    model = wrap(Linear(), shape=(1, 4, 4), classes=2, embedding="flat")
    x = 0.35 + 0.3 * random.uniform(random.row_keys(N, "grey"), (1, 4, 4))
    w = model.body.layer.weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    y, best = z.argmax(dim=1), (z[:, 0] - z[:, 1]).abs() / (w[0] - w[1]).abs().sum()
    found = cw_linf(40, shrink=0.98)(model, x, y, targets=1 - y if targeted else None)
    assert bool(found.success.all())
    seen = best > 0.02  # below, steps of one limit are coarse
    assert int(seen.sum()) > N / 2
    ratio = (found.distance / best)[seen]
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.05


def test_whole_levels_are_whole_and_can_be_one_bit():
    model, x, y = net()
    x = (x * 255).round() / 255
    found = cw_linf(40, shrink=0.7, levels=255)(model, x, y)
    level = found.x_adv * 255
    torch.testing.assert_close(level, level.round(), atol=1e-3, rtol=0)
    assert found.attack_success_rate == 1
    plain = cw_linf(40, shrink=0.7)(model, x, y)
    assert float(found.distance.mean()) < 1.2 * float(plain.distance.mean()) + 1 / 255


def test_a_row_does_not_depend_on_its_neighbours():
    model, x, y = net()
    keys, attack = random.row_keys(N, "keys"), cw_linf(15, shrink=0.6)
    whole = attack(model, x, y, keys=keys)
    for part in torch.arange(N).flip(0).split(4):
        again = attack(model, x[part], y[part], keys=keys[part])
        torch.testing.assert_close(again.distance, whole.distance[part], atol=1e-4, rtol=1e-2)
        assert torch.equal(again.success, whole.success[part])


def test_rows_that_never_fall_keep_their_best_try():
    model, x, y = net()
    found = cw_linf(3, largest_c=0.5, step_size=1e-4)(model, x, y)
    assert not bool(found.success.any())
    assert bool(found.loss.isfinite().all())
    assert bool((found.distance < 0.01).all())
    assert found.steps.shape == (N,)


def test_images_that_need_no_change_are_returned_as_they_are():
    model, x, y = net()
    found = cw_linf(5)(model, x, (y + 1) % 5)
    assert bool((found.distance == 0).all())
    assert found.backwards == 0


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="shrink"):
        cw_linf(shrink=1.0)
    with pytest.raises(ValueError, match="growth"):
        cw_linf(growth=1.0)
    with pytest.raises(ValueError, match="largest_c"):
        cw_linf(initial_c=1.0, largest_c=0.5)
    with pytest.raises(ValueError, match="levels"):
        cw_linf(levels=-1)
