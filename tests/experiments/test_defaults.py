"""What `notbugs train` takes where its options say nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from notbugs.data import load_source, split
from notbugs.experiments import carlini2016, kurakin2016
from notbugs.experiments.config import config_for
from notbugs.experiments.defaults import training_config, training_recipe
from notbugs.experiments.model_training import Net
from notbugs.models import build
from notbugs.training import named, recipe_as_json, recipe_from_json


@pytest.mark.parametrize("data", ["planted", "fashion-mnist", "cifar10", "folder:x"])
@pytest.mark.parametrize("threat", [None, "l2:0.5", "linf:0.3"])
def test_other_datasets_train_as_the_experiment_does(data: str, threat: str | None) -> None:
    usual = config_for(data, "laptop")
    assert training_config(data, threat) == usual
    for name in ("pgd", "trades"):
        wanted = named(name, usual.standard, usual.robust, threat)
        assert training_recipe(usual, name, threat) == wanted


@pytest.mark.parametrize("threat", [None, "l2:2"])
def test_mnist_without_linf_trains_as_the_experiment_does(threat: str | None) -> None:
    usual = config_for("mnist", "laptop")
    assert training_config("mnist", threat) == usual
    assert training_recipe(usual, "pgd", threat) == named(
        "pgd", usual.standard, usual.robust, threat
    )
    assert training_recipe(usual, "standard") == usual.standard


def test_mnist_in_linf_trains_beyond_the_radius_and_watches_at_it() -> None:
    config = training_config("mnist", "linf:0.3")
    assert (config.net.architecture, config.train_size) == ("strided", None)
    for name in ("pgd", "trades", "mart"):
        recipe = training_recipe(config, name, "linf:0.3")
        assert recipe.adversary is not None
        assert (recipe.adversary.threat, recipe.watch_threat) == ("linf:0.33", "linf:0.3")
        assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
    net = config.net
    build(net.architecture, shape=(1, 28, 28), classes=10, seed=0, options=dict(net.options))
    whole = training_recipe(config, "pgd", "linf:1")
    assert whole.adversary is not None
    assert whole.adversary.threat == "linf:255/255"


def test_airbench_brings_its_net_and_takes_all_images() -> None:
    config = training_config("cifar10", None, "cpu", "airbench")
    recipe = training_recipe(config, "airbench")
    assert (config.net, config.train_size) == (Net("airbench"), None)
    assert (recipe.epochs, recipe.batch_size, recipe.norm_bias_times) == (10, 1024, 64.0)
    assert recipe.precision == config.standard.precision


def test_cifar_on_a_gpu_trains_as_the_experiment_does_there() -> None:
    assert training_config("cifar10", "l2:0.5", "cuda") == config_for("cifar10", "gpu")
    assert training_config("digits", "l2:0.5", "cuda") == training_config("digits", "l2:0.5")


def test_digits_train_a_wider_net_than_the_experiment() -> None:
    usual, config = config_for("digits", "laptop"), training_config("digits")
    assert dict(config.net.options) == {n: 2 * v for n, v in usual.net.options}
    assert replace(config, net=usual.net) == usual


def test_bad_names_are_explained() -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset 'mnits'. Did you mean 'mnist'"):
        training_config("mnits", "linf:0.3")
    with pytest.raises(ValueError, match=r"`threat` must be written norm:eps"):
        training_config("mnist", "0.3")
    config = training_config("mnist", "linf:0.3")
    with pytest.raises(ValueError, match=r"`threat` must be left out with the recipe 'standard'"):
        training_recipe(config, "standard", "linf:0.3")
    with pytest.raises(ValueError, match=r"Unknown recipe 'pdg'. Did you mean 'pgd'"):
        training_recipe(config, "pdg", "linf:0.3")


@pytest.mark.parametrize("paper", [carlini2016, kurakin2016])
@pytest.mark.parametrize("preset", ["smoke", "laptop", "full"])
def test_photographs_suffice_for_the_settings(paper: Any, preset: str) -> None:
    config = paper.config_for("photographs", preset)
    parts = split(
        load_source("photographs"),
        seed=0,
        train_size=config.train_size,
        test_size=config.test_size,
    )
    assert len(parts.test) >= config.count
    if paper.EXPERIMENT.check is not None:
        paper.EXPERIMENT.check(config, parts)


def test_settings_that_cannot_run_are_refused_before_any_work() -> None:
    config = kurakin2016.config_for("photographs", "smoke")
    parts = split(load_source("photographs"), seed=0, test_size=config.test_size)
    with pytest.raises(ValueError, match=r"`scales` must leave the 224 pixels .* got 0\.1"):
        kurakin2016.check(replace(config, scales=(0.1,)), parts)
    for name, value in (("levels", (300,)), ("transformed", 300), ("angle", 80.0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            replace(config, **{name: value})
    fine = carlini2016.config_for("digits", "smoke")
    for name, value, wanted in (
        ("linf_shrink", 1.5, r"settings of C&W Linf .* `shrink`"),
        ("temperatures", (100.0,), "`temperatures` must hold two or more"),
        ("temperatures", (0.0, 1.0), "`temperatures` must"),
        ("inset", 0.9, "settings of C&W L2 .* `inset`"),
        ("narrow_inset", 0.9, "settings of C&W L0 .* `inset`"),
    ):
        with pytest.raises(ValueError, match=wanted):
            replace(fine, **{name: value})
