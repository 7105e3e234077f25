"""The main experiment, a whole run in miniature: what it writes, and that it repeats."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.core.errors import DataError, StoreError
from notbugs.data import load, load_source, split
from notbugs.experiments import ilyas2019
from notbugs.experiments.config import Config, config_for
from notbugs.experiments.constructed import AttackPictures
from notbugs.experiments.experiment import Stage, Work, load_pictures
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.experiments.running import Machine, run
from notbugs.experiments.shared import Data, Trained, digest_of, splits
from notbugs.judge import accuracy
from notbugs.models import build
from notbugs.models import load as load_model
from notbugs.models.decision import predicted
from notbugs.store import SilentObserver, Store, run_stages
from published import write_mnist

JUDGED = ["D", "D_adv", "D_R", "D_R/noise", "D_NR"]
OTHERS = ["shuffled", "random"]
SETS = [
    "D",
    *(
        row
        for kind in ("D_rand", "D_det", "D_other")
        for row in (
            kind,
            f"leak:{kind}",
            *(f"{kind}/{control}" for control in OTHERS),
            *["D_det/cycle"] * (kind == "D_det"),
        )
    ),
    *("D_noise", "D_noise/shuffled"),
]


def settings(data="digits", **changes) -> Config:
    return replace(config_for(data, "smoke"), **changes)


def smoke(folder, workers=0, data="digits", observer=None, **changes):
    return run(
        ilyas2019.EXPERIMENT,
        settings(data, **changes),
        Store(folder / "store"),
        out=folder,
        machine=Machine(workers=workers),
        observer=observer or SilentObserver(),
    )


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, smoke(folder)


def test_results_follow_the_schema(finished_run) -> None:
    folder, result = finished_run
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(result))
    assert {
        "experiment", "dataset", "preset", "command", "conditions", "claims", "tables", "seconds",
        "seconds_total", "seconds_wall", "versions",
    } <= set(result)  # fmt: skip
    assert result["conditions"]["images"] == {"train": 450, "val": 50, "test": 60}
    tables = result["tables"]
    assert list(tables) == ["visibility", "sets", "radii", "sources", "counts", "robust", "widths"]
    assert list(tables["sources"]) == ["CNN as source", "linear as source"]
    for column, values in tables["sources"]["CNN as source"].items():
        assert values == tables["sets"]["D_other"][column]
    assert tables["counts"]["D_other at 200"]["images"] == [200.0]
    assert list(tables["sets"]) == SETS
    assert list(tables["robust"]) == [*JUDGED, *(f"{name} (MLP)" for name in JUDGED)]
    assert {"r_over_d", "r_over_d_mlp"} <= {claim["id"] for claim in result["claims"]}
    assert list(tables["widths"]) == ["D_R at 16"]
    chosen = result["conditions"]["config"]["eps_headline"]
    assert chosen == 2.0  # the only one of its grid
    assert list(tables["visibility"]) == ["D_other at 2"]
    curves = ["D_rand", "D_det", "D_other", "D_noise"]
    at = {f"{leak}{name} at 2" for name in curves for leak in ("", "leak:")} - {"leak:D_noise at 2"}
    assert set(tables["radii"]) == at
    for name in curves:  # at the radius of the headline they are the same sets
        assert tables["radii"][f"{name} at 2"] == tables["sets"][name]
    for name, row in tables["sets"].items():
        assert {len(values) for values in row.values()} == {1}
        numbers = {column: values[0] for column, values in row.items()}
        for column in ("clean", "shifted", "clean_linear", "shifted_linear"):
            assert 0 <= numbers[column] <= 100
        assert numbers["chance"] == 10
        noise = name.startswith("D_noise")
        assert ("true_labels" in numbers) != noise
        pushed = "/" not in name or name.endswith(("/untrained", "/shuffled", "/cycle"))
        assert ("source_success" in numbers) == (pushed and name.startswith("D_"))
        assert ("seen_mean" in numbers) == (name != "D" and not noise)
    for name, row in tables["robust"].items():
        numbers = {column: values[0] for column, values in row.items()}
        assert 0 <= numbers["robust_eps"] <= numbers["clean"] + 1e-9
        assert ("relative_error" in numbers) == name.startswith(("D_R", "D_NR"))
        assert ("images" in numbers) == ("relative_error" in numbers)
    truth = {
        name: row["true_labels"][0] for name, row in tables["sets"].items() if "true_labels" in row
    }
    assert truth.pop("D") == 100
    rand = [share for name, share in truth.items() if "rand" in name.partition("/")[0]]
    assert all(3 < share < 20 for share in rand)
    assert len(rand) == 4
    assert sum(truth.values()) == sum(rand)
    for claim in result["claims"]:
        assert {
            "id", "statement", "published", "ours", "control", "seeds", "std", "per_seed",
            "control_per_seed", "rule", "fixed", "holds", "why",
        } <= set(claim)  # fmt: skip
        assert (claim["holds"], claim["std"], claim["seeds"]) == (None, None, 1)
        assert claim["per_seed"] == [claim["ours"]]


def test_a_dataset_with_an_official_test_part_is_planned_and_split(tmp_path: Path) -> None:
    """Its digest is that of both parts, in the plan as in every stage."""
    write_mnist(tmp_path, 100, 30)
    digest = digest_of(load_source("mnist", tmp_path))
    config = settings("mnist", train_size=None, test_size=None, digest=digest)
    work = Work(tmp_path, Store(tmp_path / "store"), data_dir=str(tmp_path))
    parts = Data.of(config, 0).splits(work)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (90, 10, 30)
    again = splits("mnist", digest, str(tmp_path), 0, None, None)
    assert len(again.test) == 30
    write_mnist(tmp_path, 100, 30, seed=1)
    with pytest.raises(DataError, match="The files of 'mnist' changed"):
        splits("mnist", digest, str(tmp_path), 1, None, None)


def test_models_and_sets_lie_there_with_their_recipes(finished_run) -> None:
    folder, _ = finished_run
    for name in ("standard-seed0", "robust-seed0", "student-D_R-seed0", "student-D_det-seed0"):
        model, facts = load_model(folder / "models" / f"{name}.safetensors")
        assert model.classes == 10
        assert facts["dataset"] == "digits"
        assert facts["recipe"]["epochs"] >= 1
        assert facts["split"] == {"seed": 0, "train_size": 500, "test_size": 60}
        assert facts["class_names"] == [str(i) for i in range(10)]
    made = load(folder / "datasets" / "D_det-seed0.safetensors")
    assert made.provenance["eps"] == 2.0
    assert made.provenance["norm"] == "l2"
    assert (folder / "datasets" / "D_R-from-noise-seed0.safetensors").exists()
    students = [f"student-{p.stem}.safetensors" for p in (folder / "datasets").iterdir()]
    own = ["standard-seed0.safetensors", "robust-seed0.safetensors"]
    assert sorted(p.name for p in (folder / "models").iterdir()) == sorted(students + own)


def test_the_table_is_what_the_files_say(finished_run) -> None:
    """Accuracy and labels, taken again from the model and the set that lie in the folder."""
    folder, result = finished_run
    row = {c: v[0] for c, v in result["tables"]["sets"]["D_det"].items()}
    model, facts = load_model(folder / "models" / "student-D_det-seed0.safetensors")
    kept = facts["split"]
    sizes = {name: kept[name] for name in ("train_size", "test_size")}
    parts = split(load_source("digits"), seed=kept["seed"], **sizes)
    assert accuracy(model, parts.test) == pytest.approx(row["clean"])
    assert accuracy(model, parts.test, (parts.test.labels + 1) % 10) == pytest.approx(
        row["shifted"]
    )
    made = load(folder / "datasets" / "D_det-seed0.safetensors")
    assert made.provenance["source"]["digest"] == parts.train.digest
    assert 100 * float(made.columns["success"].float().mean()) == pytest.approx(
        row["source_success"]
    )
    assert (row["images"], row["dropped"]) == (len(made), made.provenance.get("dropped", 0))
    assert facts["training_set"] == dict(made.provenance)


def test_the_pictures_are_of_the_sets_and_of_attacks(finished_run) -> None:
    folder, _ = finished_run
    found = load_pictures(folder)
    assert torch.equal(found["D_det.labels"], (found["D_det.true_labels"] + 1) % 10)
    assert "D_noise.true_labels" not in found
    for name in ("D_R", "D_NR", "D_rand", "D_det", "D_other", "D_noise"):
        assert found[f"{name}.images"].shape == found["D.images"].shape
        assert not torch.equal(found[f"{name}.images"], found["D.images"])
    assert torch.equal(found["D_R.labels"], found["D.labels"])
    x, y = found["attacked.images"], found["attacked.labels"]
    models = {
        name: load_model(folder / "models" / f"{name}-seed0.safetensors")[0].eval()
        for name in ("standard", "robust")
    }
    with torch.no_grad():
        assert torch.equal(predicted(models["standard"].logits(x)), y)
        for name, model in models.items():
            x_adv = found[f"{name}.adversarial"]
            assert torch.equal(predicted(model.logits(x_adv)), found[f"{name}.labels"])
            assert torch.equal(found[f"{name}.true_labels"], y)
            change = x_adv - x
            assert 0 < float(change.flatten(1).norm(dim=1).max()) <= 1.0 + 1e-5
            shown = found[f"{name}.difference"]
            largest = change.abs().amax(dim=(1, 2, 3), keepdim=True)
            torch.testing.assert_close(shown, 0.5 + change / (2 * largest))
            assert float((shown - 0.5).abs().max()) == pytest.approx(0.5)


def test_no_image_that_the_first_model_has_right_leaves_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("linear", shape=(1, 8, 8), classes=10, seed=0)
    monkeypatch.setattr(Work, "load", lambda work, stage: net)
    monkeypatch.setattr(
        "notbugs.experiments.constructed.predicted", lambda logits: torch.full((len(logits),), -1)
    )
    config = settings(digest=digest_of(load_source("digits")))
    both = tuple((role, ilyas2019.source(config, 0, role)) for role in ("standard", "robust"))
    AttackPictures(both, ilyas2019.threat(config, 1.0), 2).make(
        Work(tmp_path, Store(tmp_path / "store"))
    )
    assert {len(images) for images in load_pictures(tmp_path).values()} == {0}


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
    assert list(ours) == list(theirs)
    numbers = Numbers(both["tables"])
    for name, before in theirs.items():
        assert len(ours[name]["clean"]) == 2
        assert ours[name]["clean"][:1] == before["clean"]
        # With two values a and b the mean is a + (b - a) / 2 and the deviation |b - a| / sqrt 2.
        clean = Cell("sets", name, "clean")
        away = abs(numbers.mean(clean) - before["clean"][0])
        assert away == pytest.approx(numbers.spread(clean) / 2**0.5)
    assert any(numbers.spread(Cell("sets", name, "clean")) > 0 for name in ours)
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
    truth = {
        name: {column: values[0] for column, values in row.items()}
        for name, row in result["tables"]["planted"].items()
    }
    assert list(truth) == [*JUDGED, "D_det at 1.25", "D_other at 1.25"]
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


def test_an_unwritable_output_is_explained(finished_run, tmp_path: Path) -> None:
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


def stages() -> tuple[Trained, Stage, Stage]:
    """The robust model, its numbers, and a built set."""
    config = settings(digest=digest_of(load_source("digits")))
    rows = {row.name: row.stage for row in ilyas2019.rows(config, 0)}
    built = ilyas2019.targeted(config, 0, "D_det", config.headline)
    return ilyas2019.source(config, 0, "robust"), rows["D_adv"], built


def test_what_is_laid_out_is_no_part_of_the_store(finished_run) -> None:
    folder, _ = finished_run
    for path in (
        *folder.glob("models/*"),
        *folder.glob("datasets/*"),
        folder / "pictures.safetensors",
    ):
        assert path.stat().st_nlink == 1
    before = {p: p.stat().st_ino for p in folder.glob("models/*")}
    smoke(folder)
    assert {p: p.stat().st_ino for p in folder.glob("models/*")} == before  # not copied again


def test_damage_to_a_store_is_said_and_healed(finished_run, tmp_path: Path) -> None:
    """A flipped bit, an edited number, two models that changed places, a set cut short."""
    folder, first = finished_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    store, damaged = Store(tmp_path / "store"), stages()
    model, numbers, built = (store.get(s.kind, s.key).path for s in damaged)
    flip(model / "model.safetensors")
    flip(tmp_path / "models" / "student-D_R-seed0.safetensors")
    edited = numbers / "numbers.json"
    edited.write_text(json.dumps(json.loads(edited.read_text()) | {"clean": 16.7}))
    cut = built / "data.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    listening = Listening()
    again = smoke(tmp_path, observer=listening)
    assert sorted(label for label, _ in listening.heard) == sorted(s.label for s in damaged)
    assert again["tables"] == first["tables"]
    for path in folder.glob("*/*.safetensors"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_a_damaged_checkpoint_of_a_stage_is_begun_anew(finished_run, tmp_path: Path) -> None:
    robust, _, _ = stages()
    store, listening = Store(tmp_path / "store"), Listening()
    for content in (b"half", b""):
        with store.working(robust.kind, robust.key) as work:
            (work / "checkpoint.safetensors").write_bytes(content)
        assert run_stages([robust], store, workers=0, observer=listening).computed == 1
        assert listening.heard.pop()[1].startswith("Its checkpoint is damaged")
        made = store.get(robust.kind, robust.key).path
        known = finished_run[0] / "models" / "robust-seed0.safetensors"
        assert (made / "model.safetensors").read_bytes() == known.read_bytes()
        shutil.rmtree(made)


def test_labels_say_what_is_made_for_which_seed() -> None:
    robust, numbers, built = stages()
    assert robust.label == "train robust · seed 0"
    assert numbers.label == "evaluate robust · seed 0"
    assert built.label == "build D_det ε=2 · seed 0"
