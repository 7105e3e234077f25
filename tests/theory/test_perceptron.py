"""The first update of a linear classifier against autograd and the closed forms of its table."""

import pytest
import torch
from torch.nn import functional as F

from notbugs.data import load_source, split
from notbugs.theory import TARGETS, first_update, target_chances, turning_points

K, D = 5, 7


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def every_pair(kind: str, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, eta: float):
    """(x', t, weight): each image towards each target, weighted by its chance."""
    chance = target_chances(kind, len(w))[y]
    moved = x[:, None] + eta * (w[None] - w[y][:, None])
    t = torch.arange(len(w)).repeat(len(x))
    return moved.flatten(0, 1), t, chance.flatten()


@pytest.mark.parametrize("kind", TARGETS)
def test_it_is_the_gradient_at_zero(kind) -> None:
    y = torch.arange(K).repeat(3)
    x, w = drawn(len(y), D), drawn(K, D, seed=1)
    moved, t, weight = every_pair(kind, x, y, w, 0.3)
    v = torch.zeros(K, D, dtype=torch.float64, requires_grad=True)
    loss = (F.cross_entropy(moved @ v.T, t, reduction="none") * weight).sum() / len(x)
    (grad,) = torch.autograd.grad(loss, v)
    means = torch.stack([x[y == k].mean(dim=0) for k in range(K)])
    torch.testing.assert_close(first_update(kind, means, w, 0.3), -grad)


def test_it_has_the_forms_of_the_table() -> None:
    m, w, eta = drawn(K, D), drawn(K, D, seed=1), 0.7
    centred_m, centred_w = (a - a.mean(dim=0) for a in (m, w))
    wanted = {
        "rand": eta / K * centred_w,
        "other": (eta * centred_w - centred_m / K) / (K - 1),
        "det": (eta * (w - w.roll(1, 0)) + m.roll(1, 0) - m.mean(dim=0)) / K,
    }
    for kind, value in wanted.items():
        torch.testing.assert_close(first_update(kind, m, w, eta), value)


def test_scores_turn_at_the_turning_points() -> None:
    m, w = drawn(K, D), drawn(K, D, seed=1)
    x, y = drawn(200, D, seed=2), torch.arange(K).repeat(40)
    turn = turning_points(x, y, m, w)
    for row in range(len(x)):
        for factor, true in ((0.99, False), (1.01, True)):
            if not 0 < float(turn[row]) < float("inf"):
                far = first_update("det", m, w, 1e6 if float(turn[row]) else 1e-6) @ x[row]
                ahead = bool(far[y[row]] > far[(y[row] + 1) % K])
                assert ahead == (float(turn[row]) == 0)
                continue
            scores = first_update("det", m, w, float(turn[row]) * factor) @ x[row]
            # Past a turning point that is reached from below the true class is ahead.
            assert bool(scores[y[row]] > scores[(y[row] + 1) % K]) == true


def test_on_digits_it_tells_where_a_trained_student_turns() -> None:
    """The median turning point is where true and shifted labels are equally often preferred."""
    data = split(load_source("digits"), seed=0).train
    x, y = data.pixels().flatten(1).double(), data.labels
    w = torch.zeros(10, 64, dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        (grad,) = torch.autograd.grad(F.cross_entropy(x @ w.T, y), w)
        w = (w - 0.5 * grad).detach().requires_grad_()
    source = w.detach()
    means = torch.stack([x[y == k].mean(dim=0) for k in range(10)])
    eta = float(turning_points(x, y, means, source).median())
    shares = []
    for factor in (0.5, 1.0, 2.0):
        scores = x @ first_update("det", means, source, factor * eta).T
        ahead = scores.gather(1, y[:, None]) > scores.gather(1, (y[:, None] + 1) % 10)
        shares.append(float(ahead.double().mean()))
    assert shares[0] < 0.2
    assert abs(shares[1] - 0.5) < 0.01
    assert shares[2] > 0.8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: target_chances("next", 3), "Unknown kind of targets 'next'"),
        (lambda: target_chances("det", 1), "`classes` must be at least 2"),
    ],
)
def test_bad_values_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
