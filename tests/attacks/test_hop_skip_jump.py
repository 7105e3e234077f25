"""HopSkipJump: decisions alone lead to the boundary's nearest point."""

import pytest
import torch
from torch import nn

from nets import in_parts, small_net
from notbugs.attacks import predicted
from notbugs.attacks.hop_skip_jump import hop_skip_jump
from notbugs.core import random
from notbugs.engine import L1, L2, Linf
from notbugs.models import wrap

EACH_NORM = pytest.mark.parametrize("norm", [L2(), Linf()], ids=["l2", "linf"])
N = 8


def net():
    return small_net(N)


class Decisions(nn.Module):
    """A linear model that gives its decision alone and has no gradient."""

    def __init__(self, size=9) -> None:
        super().__init__()
        self.flat, self.asked = nn.Flatten(), 0
        self.weight = random.normal(random.row_keys(1, "w"), (size,))[0]

    def value(self, x):
        return (x.flatten(1) - 0.5) @ self.weight

    def forward(self, x):
        self.asked += len(x)
        value = (self.flat(x) - 0.5) @ self.weight
        return torch.stack([-value, value], dim=1).sign()


def decisions():
    model = wrap(Decisions(), shape=(1, 3, 3), classes=2, embedding="flat")
    x = 0.4 + 0.2 * random.uniform(random.row_keys(N, "x"), (1, 3, 3))
    return model, x, (model.body.value(x) > 0).long()


@EACH_NORM
def test_it_finds_the_least_distance_to_a_linear_boundary(norm) -> None:
    model, x, y = decisions()
    best = model.body.value(x).abs() / norm.dual(model.body.weight[None])
    found = hop_skip_jump(norm, steps=12)(model, x, y)
    assert bool(found.success.all())
    ratio = found.distance / best
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.1
    assert found.backwards == 0


def test_every_query_is_counted() -> None:
    model, x, y = decisions()
    model.body.asked = 0
    found = hop_skip_jump(L2(), steps=2, draws=40)(model, x, y, fast=False)
    assert found.forwards == model.body.asked - 4  # two images were seen behind others first
    # 40 and 56 draws in each of two steps, the halvings, a few noise images and jumps.
    assert 96 < found.queries < 160


@EACH_NORM
def test_more_steps_come_nearer(norm) -> None:
    model, x, y = net()
    few = hop_skip_jump(norm, steps=1, draws=30)(model, x, y)
    more = hop_skip_jump(norm, steps=8, draws=30)(model, x, y)
    assert bool(more.success.all())
    assert bool((more.distance <= few.distance).all())
    assert float(more.distance.median()) < 0.7 * float(few.distance.median())


def test_images_serve_as_first_points_and_targets_need_them() -> None:
    model, x, y = net()
    targets = (y + 1) % 5
    pool = random.uniform(random.row_keys(60, "pool"), (1, 8, 8))
    attack = hop_skip_jump(L2(), steps=2, draws=20, tries=0, images=pool)
    found = attack(model, x, targets=targets)
    with torch.no_grad():
        there = (predicted(model.logits(pool)) == targets[:, None]).any(dim=1)
        after = predicted(model.logits(found.x_adv))
    assert torch.equal(found.success, there)
    assert torch.equal(after[there], targets[there])
    assert torch.equal(found.x_adv[~there], x[~there])
    assert bool(there.any())


def test_rows_wrong_from_the_start_stay_where_they_are() -> None:
    model, x, y = net()
    y = torch.where(torch.arange(N) < 3, (y + 1) % 5, y)
    found = hop_skip_jump(L2(), steps=1, draws=10)(model, x, y)
    assert torch.equal(found.x_adv[:3], x[:3])
    assert found.steps.tolist() == [0] * 3 + [1] * (N - 3)


@EACH_NORM
def test_it_is_batch_invariant(norm) -> None:
    model, x, y = decisions()
    whole, parts = in_parts(hop_skip_jump(norm, steps=3, draws=40), model, x, y, 3)
    for part, some in parts:
        torch.testing.assert_close(some.x_adv, whole.x_adv[part], atol=1e-5, rtol=0)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="`norm` must be L2"):
        hop_skip_jump(L1())
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        hop_skip_jump(L2(), steps=0)
    with pytest.raises(ValueError, match="`tries` must be at least 1"):
        hop_skip_jump(L2(), tries=0)
    with pytest.raises(ValueError, match="`images` must lie in"):
        hop_skip_jump(L2(), images=torch.full((2, 1, 3, 3), 2.0))
