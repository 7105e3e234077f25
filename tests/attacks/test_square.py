"""Square: random search within the threat, without a gradient."""

import pytest
import torch
from torch import nn

from nets import in_parts, small_net
from notbugs.attacks import pgd
from notbugs.attacks.square import square
from notbugs.core import random
from notbugs.engine import L1, L2, NORMS, Everywhere, Linf, StepInfo
from notbugs.engine.pyramid import SquareStart, placed, pyramids
from notbugs.engine.square import Square, share, spots
from notbugs.models import wrap

EACH_NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
N = 16
EPS = {"linf": 0.05, "l2": 0.2, "l1": 1.5}


def net(shape=(1, 8, 8)):
    return small_net(N, shape=shape)


def info(x, step=1, steps=100, value=None, norm=None, eps=0.1) -> StepInfo:
    value = torch.zeros(len(x)) if value is None else value
    keys = random.row_keys(len(x), "info")
    project = (norm or Linf()).around(x, torch.full((len(x),), eps))
    return StepInfo(step, steps, value, None, value < 0, x, keys, project)


@EACH_NORM
def test_it_stays_in_its_set_and_comes_near_to_pgd(norm) -> None:
    model, x, y = net()
    eps = EPS[norm.name]
    found = square(norm, eps, steps=150)(model, x, y)
    white = pgd(norm, eps, steps=30)(model, x, y)
    assert bool((found.distance <= eps * (1 + 1e-5)).all())
    assert 20 < white.attack_success_rate < 100
    assert found.attack_success_rate >= white.attack_success_rate - 15
    assert found.backwards == 0


def test_it_breaks_a_model_without_gradients() -> None:
    model, x, y = net()

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()

        def forward(self, x):
            return model.logits(self.flat(x).reshape(x.shape)).detach()

    hidden = wrap(Hidden(), shape=(1, 8, 8), classes=5, embedding="flat")
    found = square(Linf(), 0.3, steps=50)(hidden, x, y)
    assert found.attack_success_rate > 80
    with pytest.raises(ValueError, match="logits without gradients"):
        pgd(Linf(), 0.1)(hidden, x, y)


def test_a_linear_model_falls_iff_the_radius_is_above_its_margin() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    weight = random.normal(random.row_keys(2, "w"), (16,))
    with torch.no_grad():
        flat[1].weight.copy_(weight)
        flat[1].bias.zero_()
    model = wrap(flat, shape=(1, 4, 4), classes=2, embedding="0")
    x = 0.4 + 0.2 * random.uniform(random.row_keys(40, "linear"), (1, 4, 4))
    with torch.no_grad():
        z = model.logits(x)
    needed = (z[:, 0] - z[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()
    eps = float(needed.median())
    found = square(Linf(), eps, steps=200)(model, x, z.argmax(dim=1))
    assert torch.equal(found.success[needed > 1.001 * eps], (needed < eps)[needed > 1.001 * eps])
    assert float(found.success[needed < 0.95 * eps].float().mean()) == 1


@EACH_NORM
def test_it_is_batch_invariant(norm) -> None:
    model, x, y = net((3, 8, 8))
    whole, parts = in_parts(square(norm, EPS[norm.name], steps=12, restarts=2), model, x, y, 7)
    for part, some in parts:
        torch.testing.assert_close(some.x_adv, whole.x_adv[part], atol=1e-5, rtol=0)
        assert torch.equal(some.steps, whole.steps[part])


def test_a_targeted_attack_reaches_its_targets() -> None:
    model, x, y = net()
    found = square(Linf(), 0.4, steps=200)(model, x, targets=(y + 1) % 5)
    assert found.attack_success_rate > 50
    with torch.no_grad():
        after = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(after[found.success], ((y + 1) % 5)[found.success])


def test_the_first_point_has_stripes_or_fills_the_sphere() -> None:
    x = torch.full((N, 3, 9, 8), 0.5)
    keys = random.row_keys(N, "start")
    stripes = SquareStart(Linf(), 0.1)(x, Everywhere(), keys) - x
    torch.testing.assert_close(stripes.abs(), torch.full_like(x, 0.1))
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    assert len(stripes[:, :, 0].reshape(-1, 8).unique(dim=0)) > N
    for norm in (L1(), L2()):
        torch.testing.assert_close(
            norm.size(SquareStart(norm, 0.7)(x, Everywhere(), keys) - x), torch.full((N,), 0.7)
        )


def test_every_linf_candidate_differs_in_one_square_only() -> None:
    x = torch.full((200, 1, 7, 7), 0.5)
    rule = Square(Linf(), 0.1)
    best = SquareStart(Linf(), 0.1)(x, Everywhere(), random.row_keys(200, "start"))
    # Late in the budget squares are single pixels: half the signs would change nothing.
    at = info(x, 99)
    after, _ = rule.step(best, at, rule.init(best, at))
    changed = (after != best).sum(dim=(1, 2, 3))
    assert bool((changed == 1).all())


def test_the_best_point_is_kept_and_nan_is_never_accepted() -> None:
    x = torch.full((3, 1, 5, 5), 0.5)
    rule, at = Square(Linf(), 0.1), info(x, 0)
    state = rule.init(x, at)
    _, state = rule.step(x + 0.1, info(x, 1, value=torch.tensor([-1.0, 1.0, float("nan")])), state)
    assert torch.equal(state.value, torch.tensor([-1.0, 0.0, 0.0]))
    assert torch.equal(state.best, torch.stack([x[0] + 0.1, x[1], x[2]]))


def test_squares_lie_anywhere_inside_and_shrink_along_the_schedule() -> None:
    u = torch.tensor([0.0, 0.5, 0.999999])
    inside, row, column = spots(u, u.flip(0), torch.zeros(3, 1, 6, 6), 3)
    assert inside.sum(dim=(1, 2, 3)).tolist() == [9, 9, 9]
    assert row[:, 0].tolist() == [0, -2, -3]
    assert column[:, 0].tolist() == [-3, -2, 0]
    assert [share(i, 10_000, 0.8) for i in (10, 11, 8001)] == [0.8, 0.4, 0.8 / 512]
    assert share(0, 1, 0.3) == 0.3


def test_a_bump_has_two_sides_and_is_zero_outside_its_square() -> None:
    table = pyramids(5, 5, torch.zeros(1))
    assert table.shape == (6, 6)
    assert bool((table[:2, :5] > 0).all())
    assert bool((table[2:5, :5] < 0).all())
    assert float(table[5].abs().sum() + table[:, 5].abs().sum()) == 0
    _, row, column = spots(torch.tensor([0.3]), torch.tensor([0.7]), torch.zeros(1, 1, 8, 9), 5)
    bump = placed(table, row, column, torch.tensor([True]))[0, 0]
    assert torch.equal(bump[bump != 0].reshape(5, 5), table[:5, :5].T)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="`p_init` must lie in"):
        square(Linf(), 0.1, p_init=1.5)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        square(Linf(), 0.1, steps=0)
    with pytest.raises(ValueError, match="`eps` must be"):
        square(L2(), -1.0)
