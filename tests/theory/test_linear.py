"""Closed forms of linear classifiers against sampling and training."""

import math

import pytest
import torch

from notbugs.theory import AccuracyAtOdds, SampleComplexity, UnusedRobustness

N = 100_000


@pytest.mark.parametrize(("strong", "eps"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.2), (0.5, 0.2)])
def test_accuracy_at_odds_is_that_of_samples(strong, eps) -> None:
    odds = AccuracyAtOdds(0.8, 0.2, 20)
    x, y = odds.sample(N, 0)
    w = torch.cat([torch.tensor([strong]), torch.full((20,), 1 / 20)]).double()
    moved = x - eps * y[:, None] * w.sign()
    share = float(((moved @ w) * y > 0).double().mean())
    assert abs(share - odds.accuracy(strong, eps)) < 5e-3


def test_accuracy_and_robustness_are_at_odds() -> None:
    odds = AccuracyAtOdds(0.95, 0.2, 400)
    eps = 2 * odds.eta
    assert odds.accuracy(0.0) > 0.999
    assert odds.accuracy(0.0, eps) < 0.001
    assert odds.accuracy(math.inf) == odds.accuracy(math.inf, eps) == 0.95
    assert odds.accuracy(math.inf, 1.0) == 0
    for strong in torch.linspace(0, 3, 31).tolist():  # no classifier breaks the theorem
        assert odds.accuracy(strong, eps) <= odds.bound(odds.accuracy(strong)) + 1e-12


def test_samples_are_enough_to_classify_before_they_are_to_withstand() -> None:
    few, many = (SampleComplexity(d) for d in (100, 10_000))
    assert float(many.accuracy(1).mean()) > 0.95
    assert float(many.accuracy(1, eps=0.5).mean()) < 0.05
    standard = [model.examples_for(0.9) for model in (few, many)]
    robust = [model.examples_for(0.9, eps=0.5) for model in (few, many)]
    assert standard == [1, 1]
    assert None not in robust
    assert robust[1] > robust[0] > 1
    assert few.examples_for(0.9, eps=1.5) is None  # more than theta itself
    rising = [float(few.accuracy(n, eps=0.5).mean()) for n in (1, 4, 16, 64)]
    assert rising == sorted(rising)


def test_sample_complexity_is_exact_for_a_classifier() -> None:
    model = SampleComplexity(30, sigma=2.0)
    found = float(model.accuracy(3, eps=0.2, draws=2000).mean())
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(400):
        w = (1 + 2.0 * torch.randn(3, 30, generator=generator)).mean(dim=0)
        x = 1 + 2.0 * torch.randn(500, 30, generator=generator) - 0.2 * w.sign()
        shares.append(float((x @ w > 0).double().mean()))
    assert abs(found - sum(shares) / 400) < 0.01


def test_standard_training_does_not_find_the_robust_classifier() -> None:
    case = UnusedRobustness(0.1, 200)
    x, y = case.points
    w = torch.zeros(201, dtype=torch.float64, requires_grad=True)
    for _ in range(2000):
        loss = torch.nn.functional.softplus(-y * (x @ w)).mean()
        (grad,) = torch.autograd.grad(loss, w)
        w = (w - 0.5 * grad).detach().requires_grad_()
    found = w.detach()
    assert bool((y * (x @ found) > 0).all())
    assert abs(case.robust(found) - case.withstands) < 1e-6
    assert case.withstands < 0.15
    strong = torch.zeros(201)
    strong[0] = 1
    assert case.robust(strong) == 1
    assert case.robust(-strong) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AccuracyAtOdds(p=0.4), "`p` must lie in"),
        (lambda: AccuracyAtOdds().accuracy(-1.0), "`strong` must be at least 0"),
        (lambda: AccuracyAtOdds().accuracy(1.0, -0.1), "`eps` must be 0 or a radius"),
        (lambda: AccuracyAtOdds().bound(1.2), "`standard` must lie in"),
        (lambda: SampleComplexity(0), "`dimension` must be at least 1"),
        (lambda: SampleComplexity(10).examples_for(1.0), "`accuracy` must lie between"),
        (lambda: UnusedRobustness(eta=1.0), "`eta` must lie between 0 and 1"),
        (lambda: UnusedRobustness(0.1, 3).robust(torch.zeros(4)), "`weights` must be 4 numbers"),
    ],
)
def test_bad_values_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
