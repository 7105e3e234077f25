"""Each sign of masked gradients shows where it must, and only there."""

import cProfile
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from nets import PARTS
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import accuracy
from notbugs.judge.masked_models import (
    anti_adversary_model,
    noisy_model,
    quantised_model,
    resizing_model,
    saturated_model,
    scrambled_model,
    wavy_model,
)
from notbugs.judge.masking import diagnose
from notbugs.judge.measurements import searches
from notbugs.judge.signs import beats, counts

SLOW = pytest.mark.slow
THREATS = ("linf:0.15", "l2:0.8", pytest.param("l1:5", marks=SLOW))
ORDER = [
    "zero gradients",
    "loss rises with steps",
    "one step against many",
    "black box against white box",
    "accuracy at a very large eps",
    "two passes agree",
    "rows alone and in batches",
    "saturated logits",
    "gradients within a pass",
]
ZERO, RISES, ONE_STEP, BLACK_BOX, LARGE, PASSES, ROWS, SATURATED, WITHIN = ORDER
MASKED = {
    "saturated": (saturated_model, {SATURATED}),
    "barely saturated": (lambda m: saturated_model(m, 30.0), {SATURATED}),
    "quantised": (quantised_model, {ZERO, RISES, BLACK_BOX, LARGE}),
    "wavy": (wavy_model, {ONE_STEP, BLACK_BOX}),
    "scrambled": (scrambled_model, {RISES, BLACK_BOX}),
    "anti-adversary": (anti_adversary_model, {WITHIN}),
}


def found(model, threat="linf:0.15", count=30, **options):
    entries = diagnose(model, PARTS.test, Threat.parse(threat), count=count, **options)
    assert [e["check"] for e in entries] == ORDER
    assert {e["verdict"] for e in entries} <= {"suspicious", "clear"}
    return {e["check"]: e["evidence"] for e in entries if e["verdict"] == "suspicious"}


@pytest.mark.parametrize("threat", THREATS)
def test_nothing_shows_on_honest_models(plain_model, robust_model, threat) -> None:
    assert accuracy(plain_model, PARTS.test) > 80
    assert accuracy(robust_model, PARTS.test) > 80
    assert found(plain_model, threat, count=24) == {}
    assert found(robust_model, threat, count=24) == {}


@pytest.mark.parametrize(("trick", "signs"), MASKED.values(), ids=list(MASKED))
def test_each_trick_shows_its_signs_and_no_other(plain_model, trick, signs) -> None:
    assert set(found(trick(plain_model))) == signs


@pytest.mark.parametrize("trick", [noisy_model, pytest.param(resizing_model, marks=SLOW)])
def test_a_random_model_shows_that_and_nothing_else(plain_model, trick) -> None:
    with torch.random.fork_rng():  # such models draw from the global generator
        torch.random.manual_seed(0)
        assert set(found(trick(plain_model), count=5)) == {PASSES}


class Energy(torch.nn.Module):
    """Logits and the gradient of their sum, which is part of the graph where there is one."""

    def __init__(self, inner, handed_on) -> None:
        super().__init__()
        self.inner, self.handed_on = inner, handed_on

    def forward(self, x):
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            z = self.inner(x)
            (grad,) = torch.autograd.grad(z.sum(), x, create_graph=self.handed_on)
        return z + 1e-3 * grad.flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("profiled", [False, True])
@pytest.mark.parametrize("handed_on", [False, True])
def test_gradients_within_a_pass_count_unless_they_are_handed_on(
    plain_model, handed_on, profiled
) -> None:
    model = noisy_model(plain_model)
    model.body = Energy(plain_model, handed_on)
    profiler = cProfile.Profile() if profiled else nullcontext()
    with profiler:
        assert searches(model, PARTS.test.pixels(slice(0, 3))) == (not handed_on)


@SLOW
@pytest.mark.parametrize("trick", ["saturated", "quantised", "scrambled"])
def test_the_signs_show_on_a_robust_model_too(robust_model, trick) -> None:
    make, signs = MASKED[trick]
    assert set(found(make(robust_model))) >= signs - {BLACK_BOX}


class NoDerivative(torch.autograd.Function):
    """As operators in int8: the output asks for a gradient, and has none."""

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, grad) -> None:
        raise NotImplementedError("no derivative of quantized::linear")


@pytest.mark.parametrize("last", [torch.detach, NoDerivative.apply], ids=["detached", "int8"])
def test_a_model_without_any_gradient_is_diagnosed(plain_model, last) -> None:
    class Last(torch.nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return last(self.inner(x))

    model = noisy_model(plain_model)
    model.body = Last(plain_model)
    assert set(found(model)) == {ZERO, RISES, BLACK_BOX, LARGE}


def test_a_model_that_looks_at_the_batch_is_diagnosed(plain_model) -> None:
    class Shifted(torch.nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            z = self.inner(x)
            return z - z.mean(dim=0, keepdim=True) / 2

    model = noisy_model(plain_model)
    model.body = Shifted(plain_model)
    entries = found(model, count=10)
    assert ROWS in entries
    assert "of a typical one" in entries[ROWS]


def test_a_surrogate_joins_the_black_box(plain_model, robust_model) -> None:
    """Examples made on the bare model break the rounded one as well."""
    masked = quantised_model(plain_model, 16)
    alone = found(masked, "linf:0.08")[BLACK_BOX]
    joined = found(masked, "linf:0.08", surrogate=plain_model)[BLACK_BOX]

    def count(text):
        return int(text.split(" of ")[0])

    assert count(joined) >= count(alone)


def test_the_verdict_repeats_and_does_not_depend_on_batches_or_change_the_model(
    plain_model,
) -> None:
    before = {k: v.clone() for k, v in plain_model.state_dict().items()}
    grads = [p.grad for p in plain_model.parameters()]
    plain_model.train()
    threat, data = Threat.parse("linf:0.1"), PARTS.test
    whole = diagnose(plain_model, data, threat, seed=3, count=10)
    assert whole == diagnose(plain_model, data, threat, seed=3, count=10, batch_size=7)
    assert whole != diagnose(plain_model, data, threat, seed=4, count=10)
    assert plain_model.training
    plain_model.eval()
    assert all(torch.equal(v, before[k]) for k, v in plain_model.state_dict().items())
    assert all(p.requires_grad for p in plain_model.parameters())
    assert all(p.grad is g for p, g in zip(plain_model.parameters(), grads, strict=True))


def test_thresholds_ask_for_more_than_chance() -> None:
    def mask(n, of=100):
        return torch.arange(of) < n

    assert not counts(mask(5))
    assert counts(mask(6))
    assert not counts(mask(1, 10))  # one odd image is no sign
    assert beats(mask(20), mask(10))
    assert not beats(mask(14), mask(10))  # below 5 %
    either = random.scalar(random.row_keys(100, "coin")) < 0.5
    assert not beats(either, ~either)
    assert not beats(mask(10), mask(20))


def test_bad_arguments_are_named(plain_model) -> None:
    threat, data = Threat.parse("linf:0.1"), PARTS.test
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        diagnose(plain_model, data, threat, count=0)
    with pytest.raises(ValueError, match="for the masking diagnosis"):
        diagnose(plain_model, data, Threat.parse("l0:3"))
    wrong = replace(data, labels=(_said(plain_model, data) + 1) % 10)
    with pytest.raises(ValueError, match="`model` must classify at least one image correctly"):
        diagnose(plain_model, wrong, threat)
    other = ImageData(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"), "small")
    with pytest.raises(ValueError, match="`data` must hold images of the model's shape"):
        diagnose(plain_model, other, threat)
    for make, match in (
        (lambda: saturated_model(plain_model, 0.0), "`scale` must be"),
        (lambda: quantised_model(plain_model, 1), "`levels` must be at least 2"),
        (lambda: noisy_model(plain_model, -1.0), "`deviation` must be"),
        (lambda: wavy_model(plain_model, height=0.0), "`height` must be"),
    ):
        with pytest.raises(ValueError, match=match):
            make()


def _said(model, data):
    with torch.no_grad():
        return model.logits(data.pixels()).argmax(dim=1)
