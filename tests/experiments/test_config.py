"""Settings of the main experiment: every preset is whole, and bad ones are explained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from notbugs.core.errors import DataError
from notbugs.data import load_source, split
from notbugs.experiments import ilyas2019
from notbugs.experiments.config import (
    PRESETS,
    Config,
    config_for,
)
from notbugs.experiments.experiment import as_json
from notbugs.experiments.ilyas2019 import DATASETS
from notbugs.experiments.model_training import Net, new_model, user_net
from notbugs.experiments.overrides import overridden
from notbugs.training import recipe_as_json, recipe_from_json


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", DATASETS)
def test_every_setting_survives_json(data, preset) -> None:
    config = config_for(data, preset)
    for recipe in (config.standard, config.robust, config.student):
        assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
    assert config.robust.adversary is not None
    assert config.seeds >= 1
    json.dumps(as_json(config, "config"))


def test_bad_settings_are_explained() -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset 'digitz'. Did you mean 'digits'"):
        config_for("digitz", "laptop")
    with pytest.raises(ValueError, match=r"Unknown preset 'labtop'. Did you mean 'laptop'"):
        config_for("digits", "labtop")
    with pytest.raises(ValueError, match=r"Unknown preset 'labtop'. Did you mean 'laptop'"):
        Config("digits", "labtop")
    with pytest.raises(ValueError, match=r"`seeds` must be at least 1; got 0"):
        Config("digits", "laptop", seeds=0)
    with pytest.raises(ValueError, match=r"`eps_sets` must be a finite number above 0; got -1"):
        Config("digits", "laptop", eps_sets=(-1.0,))
    with pytest.raises(ValueError, match=r"`eps_sets` must hold at least one radius"):
        Config("digits", "laptop", eps_sets=())
    with pytest.raises(ValueError, match=r"`eps_sets` must hold each radius once; got \(1.0, 1"):
        Config("digits", "laptop", eps_sets=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"`eps_grid` must hold at least one radius"):
        Config("digits", "laptop", eps_grid=())
    with pytest.raises(ValueError, match=r"`eps_headline` must be a finite number above 0; got 0"):
        Config("digits", "laptop", eps_headline=0.0)
    with pytest.raises(ValueError, match=r"Unknown set 'othr'. Did you mean 'other'"):
        Config("digits", "laptop", sets=("othr",))
    with pytest.raises(ValueError, match=r"Unknown control 'leek'. Did you mean 'leak'"):
        Config("digits", "laptop", controls=("leek",))
    with pytest.raises(ValueError, match=r"`sets` must name each once"):
        Config("digits", "laptop", sets=("R", "R"))
    with pytest.raises(ValueError, match=r"`judged` must be 0 or a number of test images; got -1"):
        Config("digits", "laptop", judged=-1)
    with pytest.raises(ValueError, match=r"`widths` must be at least 1; got 0"):
        Config("digits", "laptop", widths=(0,))
    with pytest.raises(ValueError, match=r"`counts` must hold each number once"):
        Config("digits", "laptop", counts=(9, 9))
    with pytest.raises(ValueError, match=r"`eval_steps` must be at least 1; got 0"):
        Config("digits", "laptop", eval_steps=0)
    with pytest.raises(ValueError, match=r"`blur` must be a finite number above 0; got -1"):
        Config("digits", "laptop", blur=-1.0)
    with pytest.raises(ValueError, match=r"`students` must name each architecture once; got mlp"):
        Config("digits", "laptop", students=(Net("mlp"), Net("mlp", (("width", 8),))))
    with pytest.raises(ValueError, match=r"`eps_eval` must be a finite number above 0; got nan"):
        Config("digits", "laptop", eps_eval=float("nan"))
    with pytest.raises(ValueError, match=r"Unknown norm 'L2'. Did you mean 'l2'|Unknown norm 'L2'"):
        Config("digits", "laptop", norm="L2")
    with pytest.raises(ValueError, match=r"`--model` must name a file, as path/to/file.py:factory"):
        user_net("nowhere.py:make", "fc")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"counts": (200, 451)},
            r"`counts` must lie between student.batch_size and .* 451",
        ),
        ({"counts": (31,)}, r"`counts` must lie between student.batch_size"),
        ({"norm": "linf"}, r"`norm` must be that of the robust model's training; got linf"),
        ({"students": (Net("clown"),)}, r"Unknown architecture 'clown'"),
    ],
)
def test_what_does_not_fit_the_images_is_refused_before_any_work(changes, match) -> None:
    config = config_for("digits", "smoke")
    parts = split(load_source("digits"), seed=0, train_size=500, test_size=60)
    assert ilyas2019.EXPERIMENT.check is not None
    ilyas2019.EXPERIMENT.check(config, parts)
    with pytest.raises(ValueError, match=match):
        ilyas2019.EXPERIMENT.check(replace(config, **changes), parts)


def test_presets_state_their_scale() -> None:
    laptop, paper = config_for("cifar10", "laptop"), config_for("cifar10", "paper")
    assert config_for("digits", "laptop").seeds >= 3
    assert config_for("digits", "laptop").eps_eval == 1.0
    assert laptop.train_size is not None
    assert (paper.train_size, paper.net.architecture) == (None, "resnet50")
    assert paper.inversion.steps == 1000
    assert (paper.inversion.step_size, paper.push_step_size) == (0.1, 0.1)


def test_changes_reach_what_they_name() -> None:
    config = config_for("digits", "laptop")
    short = overridden(config, [f"{r}.epochs=3" for r in ("standard", "robust", "student")])
    assert {r.epochs for r in (short.standard, short.robust, short.student)} == {3}
    assert short.robust.adversary == config.robust.adversary
    assert config.with_threat("linf:0.1").robust.adversary.threat == "linf:0.1"
    again = overridden(config, ["eps_sets=[1, 2]", "eps_eval=0.5", "inversion.steps=7"])
    assert (again.eps_sets, again.eps_eval, again.inversion.steps) == ((1.0, 2.0), 0.5, 7)


def standard(config: Config):
    return ilyas2019.source(config, 0, "standard")


def test_a_user_models_file_enters_every_key(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("first = 1\n")
    base = config_for("digits", "smoke")
    one = replace(base, net=user_net(f"{net}:make", "fc"))
    net.write_text("second = 2\n")
    two = replace(base, net=user_net(f"{net}:make", "fc"))
    keys = [standard(config).key for config in (base, one, two)]
    assert len(set(keys)) == 3


def test_another_architecture_takes_its_own_options() -> None:
    config = replace(config_for("digits", "smoke"), net=Net("mlp"))
    assert standard(config).net.options == ()


def test_the_plan_shares_what_is_the_same() -> None:
    """At one radius, that of the headline, the table of radii needs nothing of its own."""
    config = config_for("digits", "smoke")
    rows = list(ilyas2019.rows(config, 0))
    keys = {table: {row.stage.key for row in rows if row.table == table} for table in TABLES}
    assert keys["radii"] < keys["sets"]
    assert len(keys["sets"]) == 1 + 2 * 13 + 2 + 1  # noise is not looked at
    assert not keys["robust"] & keys["widths"]
    sources = {row.stage.source.key for row in rows if row.table == "visibility"}
    assert sources == {standard(config).key}
    more = {row.stage.key for row in ilyas2019.rows(replace(config, eps_sets=(1.0, 2.0)), 0)}
    known = {row.stage.key for row in rows}
    assert known < more
    assert len(more - known) == 2 * 6 + 1
    assert len(keys["sources"] - keys["sets"]) == len(keys["counts"] - keys["sets"]) == 1


TABLES = ("visibility", "sets", "radii", "sources", "counts", "robust", "widths")


def test_the_radius_is_chosen_where_it_is_left_open() -> None:
    config = config_for("digits", "demo")
    stage = ilyas2019.choices(config)["eps_headline"]
    looks = [look for _, looks in stage.looks for look in looks]
    assert {look.source.data.seed for look in looks} == {0, 1, 2}
    assert [eps for eps, _ in stage.looks] == list(config.eps_grid)
    assert ilyas2019.choices(replace(config, eps_headline=0.5)) == {}
    assert replace(config, eps_headline=0.5).radii == (0.5, 1.0)


def test_a_student_like_the_source_is_trained_once() -> None:
    config = replace(config_for("digits", "laptop"), net=Net("linear"))
    learnt = next(row.stage for row in ilyas2019.rows(config, 0) if row.name == "D_other")
    assert [suffix for suffix, _ in learnt.students] == ["", "_mlp"]
    claims = {claim.id: claim for claim in ilyas2019.claims(config)}
    assert [cell.column for cell in claims["other_true"].rule.cells] == ["clean", "clean_mlp"]


def test_a_user_model_that_changes_under_way_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("first = 1\n")
    net = user_net(f"{file}:make", "fc")
    file.write_text("second = 2\n")
    train = load_source("digits").train
    with pytest.raises(DataError, match="changed during the run"):
        new_model(net, train, 0)
