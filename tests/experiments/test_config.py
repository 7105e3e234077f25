"""Settings of the main experiment: every preset is whole, and bad ones are explained."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from notbugs.experiments.config import (
    PRESETS,
    Config,
    config_for,
)
from notbugs.experiments.plan import Where, plan
from notbugs.training import recipe_as_json, recipe_from_json


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "data", ["digits", "planted", "mnist", "fashion-mnist", "cifar10", "folder:x"]
)
def test_every_setting_survives_json(data, preset) -> None:
    config = config_for(data, preset)
    for recipe in (config.standard, config.robust, config.student):
        assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
    assert config.robust.adversary is not None
    assert config.seeds >= 1


def test_bad_settings_are_explained() -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset 'digitz'. Did you mean 'digits'"):
        config_for("digitz", "laptop")
    with pytest.raises(ValueError, match=r"Unknown preset 'labtop'. Did you mean 'laptop'"):
        config_for("digits", "labtop")
    with pytest.raises(ValueError, match=r"`seeds` must be at least 1; got 0"):
        Config("digits", "laptop", seeds=0)
    with pytest.raises(ValueError, match=r"`eps_sets` must be a finite number above 0; got -1"):
        Config("digits", "laptop", eps_sets=(-1.0,))
    with pytest.raises(ValueError, match=r"`eps_sets` must hold at least one radius"):
        Config("digits", "laptop", eps_sets=())
    with pytest.raises(ValueError, match=r"`eps_sets` must hold each radius once; got \(1.0, 1"):
        Config("digits", "laptop", eps_sets=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"`eps_eval` must be a finite number above 0; got nan"):
        Config("digits", "laptop", eps_eval=float("nan"))
    with pytest.raises(ValueError, match=r"Unknown norm 'L2'. Did you mean 'l2'|Unknown norm 'L2'"):
        Config("digits", "laptop", norm="L2")
    with pytest.raises(ValueError, match=r"`--model` must name a file, as path/to/file.py:factory"):
        Config("digits", "laptop").with_user_model("nowhere.py:make", "fc")


def test_presets_state_their_scale() -> None:
    laptop, paper = config_for("cifar10", "laptop"), config_for("cifar10", "paper")
    assert config_for("digits", "laptop").seeds >= 3
    assert config_for("digits", "laptop").eps_eval == 1.0
    assert laptop.train_size is not None
    assert (paper.train_size, paper.architecture, paper.inversion.steps) == (None, "resnet50", 1000)
    assert (paper.inversion.step_size, paper.push_step_size) == (0.1, 0.1)


def test_changes_reach_what_they_name() -> None:
    config = config_for("digits", "laptop")
    short = config.with_epochs(3)
    assert {r.epochs for r in (short.standard, short.robust, short.student)} == {3}
    assert short.robust.adversary == config.robust.adversary
    assert config.with_threat("linf:0.1").robust.adversary.threat == "linf:0.1"
    assert config.with_architecture("mlp").options == {}
    json.dumps(asdict(config))


def test_a_user_models_file_enters_every_key(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("first = 1\n")
    base = config_for("digits", "smoke")
    one = base.with_user_model(f"{net}:make", "fc")
    net.write_text("second = 2\n")
    two = base.with_user_model(f"{net}:make", "fc")
    keys = [plan(c, Where()).rows[0].model.key for c in (base, one, two)]
    assert len(set(keys)) == 3


def test_the_plan_shares_what_is_the_same() -> None:
    """10 sets at one radius: 2 sources, 8 built sets and students, 10 rows of numbers."""
    whole = plan(config_for("digits", "smoke"), Where())
    models = {r.model.key for r in whole.rows}
    assert (len(whole.rows), len(models)) == (10, 10)
    assert len({r.data.key for r in whole.rows if r.data is not None}) == 8
    again = plan(config_for("digits", "smoke"), Where(device="cuda", data_dir=None))
    assert [s.key for s in again.targets] == [s.key for s in whole.targets]
    assert whole.images == {"train": 450, "val": 50, "test": 60}
