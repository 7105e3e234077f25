"""Taking features apart where the truth is known by construction."""

from dataclasses import replace

import pytest

from notbugs.data import Planted, load_source, split
from notbugs.engine import Threat
from notbugs.features import InversionSettings, inverted_set, targeted_set
from notbugs.judge import evaluate, evaluation_pgd
from notbugs.models import build
from notbugs.training import Adversary, Recipe, train

PARTS = split(load_source("planted"), seed=0, train_size=1200)
TRUTH = Planted()


def share(scores, labels):
    return float((scores == labels).float().mean())


@pytest.fixture(scope="module")
def models():
    """A standard MLP, whose first layer can match patterns, and a robust CNN."""
    recipe = Recipe(epochs=12, batch_size=32, lr=0.05, warmup=0.2)
    hard = replace(recipe, adversary=Adversary("l2:1.0", steps=3, eps_warmup=0.4))
    cnn = {"width": 16, "hidden": 64}
    pair = {
        "standard": build("mlp", shape=(1, 16, 16), classes=4, seed=1, options={}),
        "robust": build("cnn", shape=(1, 16, 16), classes=4, seed=1, options=cnn),
    }
    for name, net in pair.items():
        train(net, PARTS.train, hard if name == "robust" else recipe, seed=1)
    return pair


def test_the_robust_set_keeps_the_robust_feature_and_loses_the_other(models) -> None:
    few = PARTS.train.select(slice(0, 400))
    assert share(TRUTH.decode_nonrobust(few.pixels()), few.labels) > 0.97
    made = inverted_set(
        models["robust"], few, name="D_R", seed=0, settings=InversionSettings(steps=40)
    )
    assert share(TRUTH.decode_robust(made.pixels()), made.labels) > 0.8
    assert share(TRUTH.decode_nonrobust(made.pixels()), made.labels) < 0.4


def test_d_det_has_the_reverse(models) -> None:
    few = PARTS.train.select(slice(0, 400))
    made = targeted_set(models["standard"], few, "det", Threat.parse("l2:0.5"), seed=0, steps=40)
    assert share(TRUTH.decode_robust(made.pixels()), made.labels) < 0.1
    assert share(TRUTH.decode_nonrobust(made.pixels()), made.labels) > 0.8


def test_the_two_models_use_different_features(models) -> None:
    few = PARTS.test.select(slice(0, 300))
    threat = Threat.parse("l2:0.5")
    pgd = [evaluation_pgd(threat)]
    verdicts = {k: evaluate(m, few, threat, attacks=pgd) for k, m in models.items()}
    assert verdicts["robust"].robust_accuracy > verdicts["standard"].robust_accuracy + 50
