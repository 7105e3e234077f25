"""The main experiment, a whole run in miniature: what it writes, and that it repeats."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from notbugs.core.errors import DataError, StoreError
from notbugs.data import load, load_source, split
from notbugs.experiments import ilyas2019
from notbugs.experiments.config import config_for
from notbugs.experiments.plan import Where, plan
from notbugs.experiments.stages import splits
from notbugs.judge import accuracy
from notbugs.models import load as load_model
from notbugs.store import SilentObserver, Store, run_stages
from published import write_mnist

SETS = {
    "D", "D_adv", "D_R", "D_NR", "D_rand", "D_det", "D_other",
    "leak:D_rand", "leak:D_det", "leak:D_other",
}  # fmt: skip


def smoke(folder, workers=0, data="digits", **changes):
    config = replace(config_for(data, "smoke"), **changes)
    return ilyas2019.run(
        config,
        Store(folder / "store"),
        where=Where(),
        out=folder,
        workers=workers,
        observer=SilentObserver(),
    )


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, smoke(folder)


def test_results_follow_the_schema(finished_run) -> None:
    folder, result = finished_run
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


def test_a_dataset_with_an_official_test_part_is_planned_and_split(tmp_path: Path) -> None:
    """Its digest is that of both parts, in the plan as in every stage."""
    write_mnist(tmp_path, 100, 30)
    config = replace(config_for("mnist", "smoke"), train_size=None, test_size=None)
    found = plan(config, Where(str(tmp_path)))
    assert found.images == {"train": 90, "val": 10, "test": 30}
    data = found.rows[0].model.config["data"]
    again = splits("mnist", data["digest"], str(tmp_path), 0, None, None)
    assert len(again.test) == 30
    write_mnist(tmp_path, 100, 30, seed=1)
    with pytest.raises(DataError, match="The files of 'mnist' changed"):
        splits("mnist", data["digest"], str(tmp_path), 1, None, None)


def test_models_and_sets_lie_there_with_their_recipes(finished_run) -> None:
    folder, _ = finished_run
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
    students = [f"student-{p.stem}.safetensors" for p in (folder / "datasets").iterdir()]
    own = ["standard-seed0.safetensors", "robust-seed0.safetensors"]
    assert sorted(p.name for p in (folder / "models").iterdir()) == sorted(students + own)


def test_the_table_is_what_the_files_say(finished_run) -> None:
    """Accuracy and labels, taken again from the model and the set that lie in the folder."""
    folder, result = finished_run
    row = next(r for r in result["tables"]["sets"] if r["set"] == "D_det")
    model, facts = load_model(folder / "models" / "student-D_det-eps2-seed0.safetensors")
    kept = facts["split"]
    sizes = {name: kept[name] for name in ("train_size", "test_size")}
    parts = split(load_source("digits"), seed=kept["seed"], **sizes)
    assert accuracy(model, parts.test) == pytest.approx(row["clean"])
    assert accuracy(model, parts.test, (parts.test.labels + 1) % 10) == pytest.approx(
        row["shifted"]
    )
    made = load(folder / "datasets" / "D_det-eps2-seed0.safetensors")
    assert made.provenance["source"]["digest"] == parts.train.digest
    assert 100 * float(made.columns["success"].float().mean()) == pytest.approx(
        row["source_success"]
    )
    assert facts["training_set"] == dict(made.provenance)


def test_a_second_run_does_nothing_and_says_the_same(finished_run) -> None:
    folder, first = finished_run
    second = smoke(folder)
    assert second["seconds"] == 0
    assert second["seconds_total"] == pytest.approx(first["seconds_total"])
    assert second["tables"] == first["tables"]
    assert second["claims"] == first["claims"]


def test_more_seeds_add_to_what_is_there_and_leave_other_files_alone(
    finished_run, tmp_path: Path
) -> None:
    folder, first = finished_run
    (tmp_path / "store").symlink_to(folder / "store")
    (tmp_path / "models").mkdir()
    names = ("mine.safetensors", "my-net-seed1.safetensors", "notes.txt")
    own = [tmp_path / "models" / name for name in names]
    for path in own:
        path.write_text("mine")
    both = smoke(tmp_path, seeds=2)
    ours, theirs = both["tables"]["sets"], first["tables"]["sets"]
    assert [(r["set"], r["eps"]) for r in ours] == [(r["set"], r["eps"]) for r in theirs]
    for now, before in zip(ours, theirs, strict=True):
        assert now["seeds"] == 2
        # With two values a and b the mean is a + (b - a) / 2 and the deviation |b - a| / sqrt 2.
        assert abs(now["clean"] - before["clean"]) == pytest.approx(now["clean_std"] / 2**0.5)
    assert any(r["clean_std"] > 0 for r in ours)
    assert 0 < both["seconds"] < both["seconds_total"]
    assert {c["seeds"] for c in both["claims"]} == {2}
    assert all(c["holds"] is None for c in both["claims"])  # two seeds decide nothing
    assert (tmp_path / "models" / "standard-seed1.safetensors").exists()
    smoke(tmp_path)  # one seed again: the second one's files would not be of this result
    assert [p.name for p in tmp_path.glob("*/*-seed1.safetensors")] == ["my-net-seed1.safetensors"]
    assert [path.read_text() for path in own] == ["mine", "mine", "mine"]


@pytest.mark.slow
def test_on_planted_data_the_truth_is_told_beside(tmp_path: Path) -> None:
    result = smoke(tmp_path, data="planted")
    truth = {r["set"]: r for r in result["tables"]["planted"]}
    assert set(truth) == SETS
    assert truth["D"]["planted_nonrobust"] > 99
    assert 80 < truth["D"]["planted_robust"] < 97
    for r in truth.values():
        assert all(0 <= r[c] <= 100 for c in ("model_robust", "model_nonrobust"))
    ids = {c["id"] for c in result["claims"]}
    assert {i for i in ids if i.startswith("planted_")} == {
        "planted_r_robust", "planted_r_nonrobust", "planted_det_nonrobust", "planted_det_robust",
    }  # fmt: skip


def test_data_that_change_under_way_are_noticed() -> None:
    with pytest.raises(DataError, match=r"files of 'digits' changed during the run"):
        splits("digits", "0" * 64, None, 0, None, None)


def test_elsewhere_and_in_two_processes_the_numbers_are_the_same(
    finished_run, tmp_path: Path
) -> None:
    assert smoke(tmp_path, workers=2)["tables"] == finished_run[1]["tables"]


def test_an_unwritable_output_is_explained(
    finished_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished_run
    (tmp_path / "datasets").write_text("a file in the way")
    (tmp_path / "store").symlink_to(folder / "store")
    with pytest.raises(StoreError, match=r"Cannot write .*datasets"):
        smoke(tmp_path)


class Listening(SilentObserver):
    def __init__(self) -> None:
        self.heard = []

    def noticed(self, one, text) -> None:
        self.heard.append((one.label, text))


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)


def stages_of(folder):
    store, row = Store(folder / "store"), plan(config_for("digits", "smoke"), Where())
    rows = {r.set: r for r in row.rows}
    return store, rows["D_adv"], rows["D_det"]


def test_what_is_laid_out_is_no_part_of_the_store(finished_run) -> None:
    folder, _ = finished_run
    for path in (
        *folder.glob("models/*"),
        *folder.glob("datasets/*"),
        folder / "samples.safetensors",
    ):
        assert path.stat().st_nlink == 1
    before = {p: p.stat().st_ino for p in folder.glob("models/*")}
    smoke(folder)
    assert {p: p.stat().st_ino for p in folder.glob("models/*")} == before  # not copied again


def test_damage_to_a_store_is_said_and_healed(finished_run, tmp_path: Path) -> None:
    """A flipped bit, an edited number, two models that changed places, a set cut short."""
    folder, first = finished_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    store, adv, det = stages_of(tmp_path)
    places = {name: store.get(s.kind, s.key).path for name, s in
              {"model": adv.model, "numbers": adv.numbers, "set": det.data}.items()}  # fmt: skip
    flip(places["model"] / "model.safetensors")
    flip(tmp_path / "models" / "student-D_R-seed0.safetensors")
    numbers = places["numbers"] / "numbers.json"
    numbers.write_text(json.dumps(json.loads(numbers.read_text()) | {"clean": 16.7}))
    cut = places["set"] / "data.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    listening = Listening()
    again = ilyas2019.run(
        config_for("digits", "smoke"), Store(tmp_path / "store"), where=Where(), out=tmp_path,
        workers=0, observer=listening,
    )  # fmt: skip
    assert sorted(label for label, _ in listening.heard) == sorted(
        stage.label for stage in (adv.model, adv.numbers, det.data)
    )
    assert again["tables"] == first["tables"]
    for path in folder.glob("*/*.safetensors"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_a_damaged_checkpoint_of_a_stage_is_begun_anew(finished_run, tmp_path: Path) -> None:
    _, adv, _ = stages_of(finished_run[0])
    store, listening = Store(tmp_path / "store"), Listening()
    for content in (b"half", b""):
        with store.working(adv.model.kind, adv.model.key) as work:
            (work / "checkpoint.safetensors").write_bytes(content)
        assert run_stages([adv.model], store, workers=0, observer=listening).computed == 1
        assert listening.heard.pop()[1].startswith("Its checkpoint is damaged")
        made = store.get(adv.model.kind, adv.model.key).path
        known = finished_run[0] / "models" / "robust-seed0.safetensors"
        assert (made / "model.safetensors").read_bytes() == known.read_bytes()
        shutil.rmtree(made)
