"""The main experiment: claims, tables, settings, and a whole run in miniature."""

import json
from dataclasses import replace

import pytest

from notbugs.core.errors import StoreError
from notbugs.data import load
from notbugs.experiments import ilyas2019
from notbugs.experiments.claims import Claim, Finding, outside_spread, row
from notbugs.experiments.config import (
    PRESETS,
    Config,
    config_for,
    recipe_as_json,
    recipe_from_json,
)
from notbugs.experiments.plan import Where
from notbugs.experiments.tables import Measured, Numbers
from notbugs.models import load as load_model
from notbugs.store import SilentObserver, Store

SETS = {
    "D", "D_adv", "D_R", "D_NR", "D_rand", "D_det", "D_other",
    "leak:D_rand", "leak:D_det", "leak:D_other",
}  # fmt: skip


def test_a_margin_must_exceed_twice_its_standard_error():
    assert outside_spread([5.0, 5.0, 5.0]) is True
    assert outside_spread([3.0, -3.0, 3.0, -3.0]) is False
    assert outside_spread([-5.0, -5.1]) is False
    assert outside_spread([5.0]) is None
    # mean 2, deviation 2, standard error 2 / sqrt(4) = 1: exactly twice is not beyond.
    values = [2 - 3**0.5, 2 + 3**0.5, 2 - 3**0.5, 2 + 3**0.5]
    assert outside_spread([v - 0.01 for v in values]) is False
    assert outside_spread([v + 0.01 for v in values]) is True


def numbers():
    rows = [
        Measured("D", None, s, {"clean": 90.0 + s, "robust_half_eps": 10.0, "source_success": None})
        for s in (0, 1, 2)
    ]
    rows += [
        Measured("D_det", eps, s, {"clean": 10 * eps + s, "shifted": 5.0})
        for eps in (1.0, 4.0)
        for s in (0, 1, 2)
    ]
    return Numbers(tuple(rows))


def test_tables_hold_means_deviations_and_nulls():
    table = numbers().table()
    assert [(r["set"], r["eps"]) for r in table] == [("D", None), ("D_det", 1.0), ("D_det", 4.0)]
    assert table[0]["clean"] == pytest.approx(91.0)
    assert table[0]["clean_std"] == pytest.approx(1.0)
    assert table[0]["source_success"] is None
    assert table[0]["source_success_std"] is None
    assert table[0]["seeds"] == 3
    assert numbers().seeds("D_det", "clean") == [40.0, 41.0, 42.0]
    assert numbers().seeds("D_R", "clean") == []


def test_claims_are_decided_by_their_inequality():
    claims = {c.id: c for c in ilyas2019.CLAIMS}
    shifted = row(claims["det_shifted"], numbers(), 3)
    assert (shifted["holds"], shifted["ours"], shifted["control"]) == (True, 5.0, None)
    assert row(claims["det_true"], numbers(), 3)["holds"] is False
    assert row(claims["r_over_d"], numbers(), 3) is None
    undecided = Claim("x", "s", "p", lambda _: Finding([1.0], None, None, "rule"))
    assert row(undecided, None, 1)["holds"] is None
    assert row(undecided, None, 1)["std"] is None


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "data", ["digits", "planted", "mnist", "fashion-mnist", "cifar10", "folder:x"]
)
def test_every_setting_survives_json(data, preset):
    config = config_for(data, preset)
    for recipe in (config.standard, config.robust, config.student):
        assert recipe_from_json(json.loads(json.dumps(recipe_as_json(recipe)))) == recipe
    assert config.robust.adversary is not None
    assert config.seeds >= 1


def test_bad_settings_are_explained():
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


def smoke(folder, workers=0, **changes):
    config = replace(config_for("digits", "smoke"), **changes)
    return ilyas2019.run(
        config,
        Store(folder / "store"),
        where=Where(),
        out=folder,
        workers=workers,
        observer=SilentObserver(),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, smoke(folder)


def test_results_follow_the_schema(finished):
    folder, result = finished
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(result))
    assert {
        "experiment", "dataset", "preset", "conditions", "claims", "tables", "seconds",
        "seconds_total", "versions",
    } <= set(result)  # fmt: skip
    table = result["tables"]["sets"]
    assert {r["set"] for r in table} == SETS
    for r in table:
        for column in ("clean", "shifted", "robust_half_eps", "robust_eps", "true_labels"):
            assert 0 <= r[column] <= 100
            assert f"{column}_std" in r
        assert r["robust_eps"] <= r["clean"] + 1e-9
        assert (r["source_success"] is None) == (r["set"] not in ("D_rand", "D_det", "D_other"))
        assert (r["eps"] is None) == (r["set"] in ("D", "D_adv", "D_R", "D_NR"))
        assert r["seeds"] == 1
    truth = {r["set"]: r["true_labels"] for r in table}
    assert (truth["D"], truth["D_R"], truth["D_det"], truth["D_other"]) == (100, 100, 0, 0)
    assert 3 < truth["D_rand"] < 20
    for claim in result["claims"]:
        assert {
            "id", "statement", "published", "ours", "control", "seeds", "std", "holds",
        } <= set(claim)  # fmt: skip


def test_models_and_sets_lie_there_with_their_recipes(finished):
    folder, _ = finished
    for name in ("standard-seed0", "robust-seed0", "student-D_R-seed0", "student-D_det-eps2-seed0"):
        model, facts = load_model(folder / "models" / f"{name}.safetensors")
        assert model.classes == 10
        assert facts["dataset"] == "digits"
        assert facts["recipe"]["epochs"] >= 1
        assert facts["split"]["seed"] == 0
        assert facts["class_names"] == [str(i) for i in range(10)]
    made = load(folder / "datasets" / "D_det-eps2-seed0.safetensors")
    assert made.provenance["eps"] == 2.0
    assert made.provenance["norm"] == "l2"
    assert (folder / "datasets" / "leak-D_rand-eps2-seed0.safetensors").exists()


def test_a_second_run_does_nothing_and_says_the_same(finished):
    folder, first = finished
    second = smoke(folder)
    assert second["seconds"] == 0
    assert second["seconds_total"] == pytest.approx(first["seconds_total"])
    assert second["tables"] == first["tables"]
    assert second["claims"] == first["claims"]


def test_elsewhere_and_in_two_processes_the_numbers_are_the_same(finished, tmp_path):
    assert smoke(tmp_path, workers=2)["tables"] == finished[1]["tables"]


def test_an_unwritable_output_is_explained(finished, tmp_path, monkeypatch):
    folder, _ = finished
    (tmp_path / "datasets").write_text("a file in the way")
    (tmp_path / "store").symlink_to(folder / "store")
    with pytest.raises(StoreError, match=r"Cannot write .*datasets"):
        smoke(tmp_path)
