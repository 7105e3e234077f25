"""Every recipe learns digits, and gives the robustness that it promises, or none."""

import json
from dataclasses import replace

import pytest

from notbugs.data import load_source, split
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, evaluation_pgd
from notbugs.models import build
from notbugs.training import (
    Adversary,
    AtTemperature,
    Awp,
    Free,
    HiddenLayer,
    L1Decay,
    L2Decay,
    Lipschitz,
    Mart,
    Mixed,
    Noise,
    NoisyStep,
    Recipe,
    Rotation,
    ScaledGradient,
    Trades,
    recipe_as_json,
    recipe_from_json,
    train,
)

PARTS = split(load_source("digits"), seed=0, train_size=700)
BASE = Recipe(epochs=15, batch_size=32, lr=0.1, warmup=0.2)
EPS = "linf:0.15"
THREAT = Threat.parse(EPS)
PGD = Adversary(EPS, steps=4, eps_warmup=0.5)
FGSM = Adversary(EPS, steps=1, random_start=False, eps_warmup=0.5, train_mode=True)

ROBUST = {
    "PGD": replace(BASE, adversary=PGD),
    "FGSM mixed": replace(BASE, adversary=FGSM, objective=Mixed()),
    "fast": replace(BASE, adversary=Adversary(EPS, steps=1, step_size=1.25 * 0.15, eps_warmup=0.5)),
    "N-FGSM": replace(BASE, adversary=NoisyStep(EPS, eps_warmup=0.5, noise=1.0)),
    "free": replace(BASE, epochs=10, adversary=PGD, objective=Free(3)),
    "TRADES": replace(BASE, adversary=PGD, objective=Trades(3.0)),
    "MART": replace(BASE, adversary=PGD, objective=Mart(2.0)),
    "AWP": replace(BASE, adversary=PGD, awp=Awp(5e-4)),
    "average": replace(BASE, adversary=PGD, average=0.98),
    "scaled gradient": replace(BASE, adversary=ScaledGradient(EPS, eps_warmup=0.5)),
    "rotation": replace(BASE, adversary=Rotation("l2:0.5", eps_warmup=0.5)),
}
"""Recipes that must raise robust accuracy at `EPS` by `GAIN` points over the plain one."""
GAIN = 15
CONTROLS = {
    "signs": replace(BASE, adversary=Noise(EPS, kind="signs")),
    "uniform": replace(BASE, adversary=Noise(EPS, kind="uniform")),
    "gaussian": replace(BASE, adversary=Noise(EPS, kind="gaussian")),
}
"""Noise as large as the threat: must not."""
OTHERS = {
    "hidden layer": replace(
        BASE, adversary=HiddenLayer("l2:0.5", eps_warmup=0.5, layer="trunk.0", size=0.1)
    ),
    "L1": replace(BASE, penalties=(L1Decay(1e-5),)),
    "L2": replace(BASE, penalties=(L2Decay(1e-3),), weight_decay=0.0),
    "Lipschitz": replace(BASE, penalties=(Lipschitz(1e-3, target=1.0),)),
    "temperature": replace(BASE, objective=AtTemperature(5.0), lr=0.5),
}
"""Recipes of which no robustness is claimed here."""
ALL = ROBUST | CONTROLS | OTHERS


def trained(recipe, **named):
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8, "hidden": 32})
    done = train(model, PARTS.train, recipe, seed=0, **named)
    assert done.stopped == ""
    return model


def robust(model):
    few = PARTS.test.select(slice(0, 200))
    return evaluate(model, few, THREAT, attacks=[evaluation_pgd(THREAT)]).robust_accuracy


@pytest.fixture(scope="module")
def plain_accuracy():
    return robust(trained(BASE))


QUICK = ("PGD", "fast", "free", "TRADES")
"""One of each kind; the others are tried by `make slow`, and their steps in other tests."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ROBUST]
)
def test_robust_recipes_raise_robust_accuracy(plain_accuracy, name) -> None:
    model = trained(ROBUST[name])
    assert robust(model) > plain_accuracy + GAIN
    assert accuracy(model, PARTS.test) > 65


@pytest.mark.parametrize("name", CONTROLS)
def test_noise_controls_do_not(plain_accuracy, name) -> None:
    model = trained(CONTROLS[name])
    assert robust(model) < plain_accuracy + GAIN
    assert accuracy(model, PARTS.test) > 85


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_learn(name) -> None:
    assert accuracy(trained(OTHERS[name]), PARTS.test) > 85


@pytest.mark.parametrize("name", ALL)
def test_recipes_survive_json(name) -> None:
    recipe = ALL[name]
    assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
