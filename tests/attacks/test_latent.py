"""Attacks on codes and embeddings."""

import pytest
import torch
from torch import nn

from nets import in_parts, small_net
from notbugs.attacks.feature_distance import feature_distance
from notbugs.attacks.latent import CodeDistance, code_distance, latent
from notbugs.core import random
from notbugs.engine import L1, L2, Adam, Draw, Linf, Steepest

N = 12


def images(n=N, name="x", low=0.3, high=0.7):
    return low + (high - low) * random.uniform(random.row_keys(n, name), (1, 4, 4))


class Autoencoder(nn.Module):
    """A small net with a code of 5 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh())
        self.drop = nn.Dropout(0.5)
        self.decode = nn.Sequential(nn.Linear(5, 16), nn.Sigmoid(), nn.Unflatten(1, (1, 4, 4)))
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(0.5 * random.normal(random.row_keys(len(p), i), tuple(p.shape[1:])))

    def forward(self, x):
        return self.decode(self.drop(self.encode(x)))


def net():
    return small_net(N)


@pytest.mark.parametrize("rule", [None, Adam(0.01, schedule="linear"), Steepest(Linf(), 0.02)])
def test_the_identity_is_left_with_the_distance_to_the_ball(rule) -> None:
    x, other = images(), images(name="other")
    found = latent(nn.Flatten(), x, other.flatten(1), Linf(), 0.1, rule=rule)
    nearest = x + (other - x).clamp(-0.1, 0.1)
    wanted = (other - nearest).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.before, (other - x).flatten(1).norm(dim=1))
    assert bool((found.after <= 1.05 * wanted + 1e-3).all())
    assert bool((found.distance <= 0.1 + 1e-6).all())


def test_in_l2_a_linear_code_moves_straight_to_its_target() -> None:
    x, other = images(), images(name="other")
    found = latent(nn.Flatten(), x, other.flatten(1), L2(), 0.3)
    torch.testing.assert_close(found.after, (found.before - 0.3).clamp(min=0), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.closed, 1 - found.after / found.before)


@pytest.mark.parametrize("norm", [Linf(), L2(), L1()])
def test_another_image_is_reached_in_code_and_in_reconstruction(norm) -> None:
    auto, x, other = Autoencoder().train(), images(), images(name="other")
    eps = {"linf": 0.2, "l2": 0.8, "l1": 2.5}[norm.name]
    with torch.no_grad():
        code = auto.encode(other)
        drawn = auto.eval()(other)
    auto.train()
    by_code = latent(auto.encode, x, code, norm, eps, decoder=auto.decode)
    assert float(by_code.closed.mean()) > 0.5
    torch.testing.assert_close(by_code.reconstruction, auto.decode(by_code.code).detach())
    torch.testing.assert_close(by_code.after, code_distance(auto.encode(by_code.x_adv), code))
    by_image = latent(auto, x, drawn, norm, eps)
    assert float(by_image.closed.mean()) > 0.5
    assert auto.training
    assert auto.drop.training
    assert all(p.requires_grad and p.grad is None for p in auto.parameters())


def test_never_farther_than_the_start_and_restarts_only_help() -> None:
    model, x, _ = net()
    with torch.no_grad():
        code = model.embed(x.flip(0))
    one = latent(model.embed, x, code, L2(), 0.3, steps=5, rule=Steepest(L2(), 3.0))
    more = latent(model.embed, x, code, L2(), 0.3, steps=5, rule=Steepest(L2(), 3.0), restarts=4)
    assert bool((one.after <= one.before).all())
    assert bool((more.after <= one.after).all())
    assert bool((more.after < one.after).any())


def test_latent_is_batch_invariant() -> None:
    model, x, _ = net()
    with torch.no_grad():
        code = model.embed(x.flip(0))
    keys = random.row_keys(N, "keys")
    whole = latent(model.embed, x, code, Linf(), 0.05, steps=10, restarts=2, keys=keys)
    for rows in torch.arange(N).flip(0).split(5):
        part = latent(
            model.embed, x[rows], code[rows], Linf(), 0.05, steps=10, restarts=2, keys=keys[rows]
        )
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-5, rtol=0)


def test_the_embedding_is_driven_away_and_mistakes_are_counted() -> None:
    model, x, y = net()
    found = feature_distance(L2(), 1.0, steps=30)(model, x, y)
    with torch.no_grad():
        z, moved = model.both(found.x_adv)
        gone = code_distance(moved, model.embed(x))
    assert torch.equal(found.success, z.argmax(dim=1) != y)
    torch.testing.assert_close(found.loss, -gone)
    assert int(found.success.sum()) > 0
    noisy = L2().project_in_box(
        x + random.normal(random.row_keys(N, "noise"), (1, 8, 8)), x, torch.ones(N)
    )
    with torch.no_grad():
        assert float((gone / code_distance(model.embed(noisy), model.embed(x))).mean()) > 2


def test_feature_distance_is_batch_invariant() -> None:
    model, x, y = net()
    whole, parts = in_parts(feature_distance(Linf(), 0.03, steps=8, restarts=2), model, x, y, 5)
    for rows, part in parts:
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-5, rtol=0)


def test_bad_arguments_are_named() -> None:
    x, code = images(), torch.zeros(N, 16)
    flat = nn.Flatten()
    with pytest.raises(ValueError, match=r"`target` must have shape \(12, 16\)"):
        latent(flat, x, code[:, :3], Linf(), 0.1)
    with pytest.raises(ValueError, match="`target` must be finite; got NaN or infinity, first in"):
        latent(flat, x, code / 0, Linf(), 0.1)
    with pytest.raises(ValueError, match="`encoder` must give codes that can be differentiated"):
        latent(lambda v: v.detach(), x, code, Linf(), 0.1)
    with pytest.raises(ValueError, match=r"`x` must lie in \[0, 1\]"):
        latent(flat, 2 * x, code, Linf(), 0.1)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        latent(flat, x, code, Linf(), 0.1, steps=0)
    with pytest.raises(ValueError, match="`restarts` must be at least 1"):
        feature_distance(Linf(), 0.1, restarts=0)
    model, x, _ = net()
    with pytest.raises(ValueError, match="`targets` must be left out for Feature-distance"):
        feature_distance(Linf(), 0.1)(model, x, targets=torch.zeros(N, dtype=torch.int64))
    with pytest.raises(KeyError, match="'code'"):
        CodeDistance(flat)(x, None, Draw(random.row_keys(N, "k")))
