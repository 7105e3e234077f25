"""Recipes by name."""

import json

import pytest

from notbugs.training import (
    RECIPES,
    Adversary,
    Recipe,
    named,
    recipe_as_json,
    recipe_from_json,
)
from notbugs.training.named import ADVERSARIAL, PLAIN

STANDARD = Recipe(epochs=12, lr=0.1)
ROBUST = Recipe(epochs=8, lr=0.05, adversary=Adversary("l2:1", steps=5, eps_warmup=0.4))


@pytest.mark.parametrize("name", RECIPES)
def test_every_name_makes_a_recipe_that_can_be_written_down(name) -> None:
    recipe = named(name, STANDARD, ROBUST, "linf:0.1" if name in ("n-fgsm",) else None)
    assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
    assert (recipe.adversary is None) == (name in PLAIN)
    own = {"airbench": 1.5}
    assert recipe.lr == own.get(name, 0.1 if name in PLAIN else 0.05)


def test_no_two_names_mean_the_same() -> None:
    made = {named(name, STANDARD, ROBUST, "linf:0.1") for name in ADVERSARIAL if name != "rotation"}
    assert len(made) == len(ADVERSARIAL) - 1


def test_the_threat_is_the_callers_or_the_datasets() -> None:
    for name in ADVERSARIAL:
        threat = "linf:51/255" if name == "n-fgsm" else "l2:0.7"
        assert named(name, STANDARD, ROBUST, threat).adversary.threat == threat
        assert named(name, STANDARD, ROBUST, threat).adversary.eps_warmup == 0.4
    assert named("trades", STANDARD, ROBUST).adversary.threat == "l2:1"


def test_bad_names_and_threats_are_explained() -> None:
    with pytest.raises(ValueError, match=r"Unknown recipe 'trade'. Did you mean 'trades'"):
        named("trade", STANDARD, ROBUST)
    with pytest.raises(ValueError, match=r"`threat` must be left out with the recipe 'l1'"):
        named("l1", STANDARD, ROBUST, "l2:1")
    with pytest.raises(ValueError, match=r"`threat` must be written norm:eps"):
        named("pgd", STANDARD, ROBUST, "0.5")
    with pytest.raises(ValueError, match=r"`threat` must be an Linf one"):
        named("n-fgsm", STANDARD, ROBUST)
