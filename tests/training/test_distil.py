"""Defensive distillation: cross-entropy goes blind, the logits do not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from notbugs.attacks import pgd
from notbugs.attacks.losses import margin
from notbugs.data import load_source, split
from notbugs.engine import Linf
from notbugs.judge import accuracy
from notbugs.models import build, wrap
from notbugs.training import AtTemperature, Recipe, distil, soft_labels, train, with_temperature

PARTS = split(load_source("digits"), seed=0, train_size=700)
T = 50.0
LONG = Recipe(epochs=40, batch_size=32, lr=1.0, warmup=0.2, weight_decay=0.0)


def net(seed=0):
    options = {"width": 8, "hidden": 32}
    return build("cnn", shape=(1, 8, 8), classes=10, seed=seed, options=options)


@pytest.fixture(scope="module")
def teacher_and_student():
    teacher, student = net(1), net(2)
    train(teacher, PARTS.train, replace(LONG, objective=AtTemperature(T)), seed=0)
    distil(teacher, student, PARTS.train, LONG, temperature=T, seed=1)
    return teacher, student


def broken(model, loss=None):
    few = PARTS.test.select(slice(0, 200))
    named = {} if loss is None else {"loss": loss}
    attack = pgd(Linf(), 0.15, steps=20, random_start=False, **named)
    return attack(model, few.pixels(), few.labels).success.float().mean().item()


def test_cross_entropy_is_fooled_and_the_margin_is_not(teacher_and_student) -> None:
    _, student = teacher_and_student
    assert accuracy(student, PARTS.test) > 85
    assert broken(student, margin) > 0.8
    assert broken(student) < 0.5 * broken(student, margin)


def test_a_heated_net_learns_at_a_temperature_as_others_do_without() -> None:
    usual = Recipe(epochs=20, batch_size=32, lr=0.1, warmup=0.2)
    hot = replace(usual, objective=AtTemperature(100.0))
    plain, warm, cold = net(1), with_temperature(net(1), 100.0), net(1)
    few = PARTS.test.pixels()
    with torch.no_grad():
        torch.testing.assert_close(warm.logits(few), 100 * plain.logits(few))
    train(plain, PARTS.train, usual, seed=0)
    train(warm, PARTS.train, hot, seed=0)
    train(cold, PARTS.train, hot, seed=0)
    scores = [accuracy(model, PARTS.test) for model in (plain, warm, cold)]
    assert scores[0] > 85
    assert scores[1] > 85
    assert scores[2] < 40


def test_only_what_ends_in_a_linear_layer_is_heated() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3), nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="look like probabilities"):
        model = wrap(module, shape=(1, 8, 8), classes=3, embedding="1")
    with pytest.raises(ValueError, match="`model` must end in a linear or convolutional layer"):
        with_temperature(model, 20.0)
    with pytest.raises(ValueError, match="`temperature` must be a finite number above 0"):
        with_temperature(net(), 0.0)
    conv = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    model = wrap(conv, shape=(1, 8, 8), classes=3, embedding="0")
    before = [p.detach().clone() for p in model.parameters()]
    assert all(
        torch.equal(2 * old, new)
        for old, new in zip(before, with_temperature(model, 2.0).parameters(), strict=True)
    )
    assert not conv[0]._forward_hooks


def test_the_teachers_word_is_its_probabilities_at_the_temperature(teacher_and_student) -> None:
    teacher, _ = teacher_and_student
    said = soft_labels(teacher, PARTS.test, T)
    with torch.no_grad():
        wanted = (teacher.logits(PARTS.test.pixels()) / T).softmax(dim=1)
    torch.testing.assert_close(said, wanted)
    sharp = soft_labels(teacher, PARTS.test, 1.0)
    assert float(said.amax(dim=1).mean()) < float(sharp.amax(dim=1).mean())
    with pytest.raises(ValueError, match="`temperature` must be a finite number above 0"):
        soft_labels(teacher, PARTS.test, 0.0)
