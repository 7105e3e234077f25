"""Usefulness against known truth: closed forms, planted features, and units that are left out."""

import itertools
from dataclasses import replace

import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from notbugs.attacks import pgd
from notbugs.data import ImageData, Planted, load_source, split
from notbugs.engine import L1, L2, Threat
from notbugs.features import (
    Features,
    feature_classifier,
    feature_weights,
    features_of,
    kernel_features,
    pixel_features,
    restricted,
    usefulness,
)
from notbugs.features.certified import largest_gain
from notbugs.judge import accuracy
from notbugs.models import build, wrap
from notbugs.models.layers import Body
from notbugs.training import Adversary, Recipe, train


@pytest.fixture(scope="module")
def digits():
    parts = split(load_source("digits"), seed=0)
    options = {"width": 8, "hidden": 16}
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options=options)
    train(model, parts.train, Recipe(epochs=10, lr=0.1), seed=0)
    return model.eval(), parts.train, parts.test.select(slice(0, 100))


@pytest.fixture(scope="module")
def planted() -> tuple[Planted, ImageData, ImageData]:
    made = Planted(n=1200)
    data = made.make()
    return made, data.select(slice(0, 800)), data.select(slice(800, 1200))


def test_planted_features_are_found_as_what_they_are(planted) -> None:
    made, train_set, test = planted
    k = made.classes
    directions = torch.cat([made.blobs, made.patterns]).flatten(1)
    features = pixel_features(train_set, directions=directions)
    assert features.linear
    found = usefulness(features, train_set, test, Threat.parse("l2:0.5"))
    own = torch.arange(k)
    blobs, patterns = found.rho[own, own], found.rho[k + own, own]
    assert bool((blobs > 0.5).all())
    assert bool((patterns > 0.5).all())
    assert found.bound == "exact"
    # A blob points to its class and withstands the threat; a pattern is turned around.
    assert bool(found.robust[own, own].all())
    assert bool(found.non_robust[k + own, own].all())
    assert float(found.rho_error.max()) < 0.15


@pytest.mark.parametrize("threat", ["l2:0.4", "linf:0.1"])
@pytest.mark.parametrize("low", [0.4, 0.0])
def test_features_of_pixels_are_attacked_exactly(threat: str, low: float) -> None:
    """PGD ends at the closed form, on grey images and on those at the edge of the box."""
    generator = torch.Generator().manual_seed(0)
    x = low + (1 - 2 * low) * torch.rand(60, 1, 4, 4, generator=generator).round(decimals=1)
    data = ImageData(x, torch.arange(60) % 3, ("a", "b", "c"), "grey")
    closed = pixel_features(data, components=3)
    # The same features of a layer that only flattens: PGD has to find it.
    model = build("linear", shape=(1, 4, 4), classes=3, seed=0)
    tried = features_of(model, data, layer="trunk", directions=closed.directions)
    exact, found = (usefulness(f, data, data, threat, steps=300) for f in (closed, tried))
    assert (exact.bound, found.bound) == ("exact", "upper")
    torch.testing.assert_close(exact.rho, found.rho, atol=1e-4, rtol=0)
    torch.testing.assert_close(exact.gamma, found.gamma, atol=4e-3, rtol=0)
    assert bool((found.gamma >= exact.gamma - 1e-4).all())
    certified = usefulness(tried, data, data, threat, certify=True)
    assert certified.bound == "lower"
    assert not bool(certified.non_robust.any())
    assert bool((certified.gamma <= exact.gamma + 1e-4).all())


def test_in_l1_the_largest_gain_is_that_of_the_linear_program() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 6, generator=generator).round(decimals=1).double()
    weights = torch.randn(3, 6, generator=generator).double()
    weights[0, 2] = 0
    for eps in (0.05, 0.7, 1.5, 10.0):
        found = largest_gain(L1(), weights, x, eps)
        for i, j in itertools.product(range(4), range(3)):
            room = torch.where(weights[j] > 0, 1 - x[i], x[i])
            bounds, size = [(0.0, float(r)) for r in room], torch.ones(1, 6).double()
            best = linprog(-weights[j].abs().numpy(), size.numpy(), [eps], bounds=bounds)
            assert float(found[i, j]) == pytest.approx(-best.fun, abs=1e-7)


def test_features_are_standardised_and_constants_left_out(digits) -> None:
    model, train_set, _ = digits
    features = features_of(model, train_set)
    values = features(train_set.pixels())
    assert values.shape == (len(train_set), len(features))
    torch.testing.assert_close(values.mean(dim=0), torch.zeros(len(features)), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        values.std(dim=0, correction=0), torch.ones(len(features)), atol=1e-3, rtol=0
    )
    corners = pixel_features(train_set)  # some corners of digits are always 0
    assert 0 < len(corners) < 64
    assert len(corners.numbers) == len(corners)


def test_units_lose_usefulness_to_an_adversary(digits) -> None:
    model, train_set, test = digits
    units = features_of(model, train_set)
    small, large = (
        usefulness(units, train_set, test, Threat.parse(t), steps=5) for t in ("l2:0.2", "l2:1")
    )
    assert bool((small.gamma <= small.rho + 1e-5).all())
    assert float((large.gamma - small.gamma).mean()) < 0
    assert int(large.non_robust.sum()) > int(small.non_robust.sum())
    assert not bool((large.non_robust & large.robust).any())
    again = usefulness(units, train_set, test, Threat.parse("l2:0.2"), steps=5)
    assert torch.equal(again.gamma, small.gamma)
    some = torch.tensor([1, 3])
    part = usefulness(units.select(some), train_set, test, Threat.parse("l2:0.2"), steps=5)
    torch.testing.assert_close(part.gamma, small.gamma[some], atol=1e-4, rtol=1e-4)


def test_a_restricted_model_sees_its_units_alone(digits) -> None:
    model, train_set, test = digits
    every = features_of(model, train_set).numbers
    whole = restricted(model, train_set, every)
    half = restricted(model, train_set, every[::2])

    def right(of) -> float:
        with torch.no_grad():
            named = of.logits(test.pixels()).argmax(dim=1)
        return float((named == test.labels).double().mean())

    assert right(whole) > 0.85
    assert right(whole) >= right(half) > 0.3
    assert isinstance(half.body, Body)
    weights = half.body.head.weight.detach()
    out = torch.ones(weights.shape[1], dtype=torch.bool)
    out[every[::2]] = False
    assert float(weights[:, out].abs().max()) == 0
    assert float(weights[:, ~out].abs().min()) > 0
    assert not torch.equal(weights, model.body.head.weight)  # the model itself is left as it is


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: features_of(m, d, components=500), "`components` must be at most"),
        (lambda m, d: features_of(m, d, directions=torch.ones(2, 5)), r"have shape \(m, 16\)"),
        (
            lambda m, d: features_of(m, d, directions=torch.ones(1, 16), components=1),
            "`components` must be left out",
        ),
        (lambda m, d: restricted(m, d, torch.tensor([99])), "`units` must be numbers of units"),
        (
            lambda m, d: usefulness(
                features_of(m, d), d, d.select(d.labels == 3), Threat.parse("l2:0.1")
            ),
            "`test` must hold images of every class",
        ),
        (
            lambda m, d: usefulness(features_of(m, d), d, d, Threat.parse("l2:0.1"), steps=0),
            "`steps` must be at least 1",
        ),
    ],
)
def test_bad_values_are_named(digits, call, message) -> None:
    model, train_set, _ = digits
    with pytest.raises(ValueError, match=message):
        call(model, train_set)


def test_a_feature_set_has_a_length(digits) -> None:
    model, train_set, _ = digits
    features = features_of(model, train_set, components=4)
    assert isinstance(features, Features)
    assert len(features) == 4


def test_a_restricted_head_may_be_parametrised(digits) -> None:
    _, train_set, _ = digits
    torch.manual_seed(0)
    for normed in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), normed(nn.Linear(16, 10)))
        model = wrap(body, shape=(1, 8, 8), classes=10, embedding="2").eval()
        seen = restricted(model, train_set, features_of(model, train_set).numbers[:5].tolist())
        x = train_set.pixels(slice(0, 20))
        cut = seen.embed(x).detach()
        cut[:, features_of(model, train_set).numbers[5:]] = 0
        head = seen.body[3]
        torch.testing.assert_close(head(cut), seen.logits(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: restricted(m, d, torch.ones(16, dtype=torch.bool)), r"numbers\[mask\]"),
        (lambda m, d: restricted(m, d, [99]), r"`units` must be numbers of units that vary"),
        (lambda m, d: restricted(m, d, [0], decay=-1.0), "`decay`"),
        (lambda m, d: pixel_features(d, directions=torch.ones(0, 64)), r"`directions`.*\(m, 64\)"),
        (lambda m, d: pixel_features(d, directions=torch.full((1, 64), torch.nan)), "finite"),
        (lambda m, d: usefulness(kernel_features(d), d, d, "l2:0.1", certify=True), "`certify`"),
    ],
)
def test_arguments_that_do_not_fit_are_named(digits, call, message: str) -> None:
    model, train_set, _ = digits
    with pytest.raises((ValueError, TypeError), match=message):
        call(model, train_set)


def test_a_classifier_of_features_leaves_them_and_an_adversary_moves_its_weight(digits) -> None:
    model, train_set, test = digits
    before = [p.clone() for p in model.parameters()]
    features = features_of(model, train_set)
    recipe = Recipe(epochs=6, batch_size=64, lr=0.05)
    plain = feature_classifier(features, train_set, recipe, seed=0)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert len(list(plain.parameters())) == 2
    assert accuracy(plain, test) > 85
    torch.testing.assert_close(plain.embed(test.pixels()), features(test.pixels()))
    shares = feature_weights(plain)
    assert float(shares.sum()) == pytest.approx(1)
    assert shares.shape == (len(features),)
    adversary = Adversary("l2:0.5", steps=3)
    robust = feature_classifier(features, train_set, replace(recipe, adversary=adversary), seed=0)
    again = feature_classifier(features, train_set, replace(recipe, adversary=adversary), seed=0)
    assert torch.equal(feature_weights(robust), feature_weights(again))
    attack = pgd(L2(), 0.5, steps=10)
    rates = [attack(m, test.pixels(), test.labels).robust_accuracy for m in (plain, robust)]
    assert rates[1] > rates[0]


def test_in_planted_data_adversarial_loss_keeps_the_robust_features(planted) -> None:
    made, train_set, _ = planted
    directions = torch.cat([made.blobs, made.patterns]).flatten(1)
    features = pixel_features(train_set, directions=directions)
    recipe = Recipe(epochs=10, batch_size=64, lr=0.05)
    kinds = (recipe, replace(recipe, adversary=Adversary("l2:0.5", steps=5)))
    made_by = [feature_classifier(features, train_set, r, seed=0) for r in kinds]
    on_blobs = [float(feature_weights(m)[: made.classes].sum()) for m in made_by]
    assert on_blobs[1] > on_blobs[0] + 0.1
    assert on_blobs[1] > 0.7
