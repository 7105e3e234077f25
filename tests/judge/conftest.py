"""Two nets trained on digits, once for all tests of the judge; tests leave them as they are."""

import pytest

from notbugs.data import load_source, split
from notbugs.models import build
from notbugs.training import Adversary, Recipe, train

PARTS = split(load_source("digits"), seed=0, train_size=700)


def trained(adversary=None):
    options = {"width": 8, "hidden": 32}
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options=options)
    recipe = Recipe(epochs=12, batch_size=32, lr=0.1, warmup=0.2, adversary=adversary)
    return train(model, PARTS.train, recipe, seed=0).model


@pytest.fixture(scope="session")
def plain():
    return trained()


@pytest.fixture(scope="session")
def robust():
    return trained(Adversary("linf:0.1", steps=3, eps_warmup=0.5))
