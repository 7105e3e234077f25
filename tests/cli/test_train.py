"""`notbugs train`: every recipe by name, and what it leaves beside the weights."""

import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.cli import main
from notbugs.data import ImageData, export_folder, export_npz, load_source, save, split
from notbugs.data import load as load_set
from notbugs.experiments.config import config_for
from notbugs.judge import accuracy
from notbugs.models import build, read_metadata, save_model
from notbugs.models import load as load_model
from notbugs.training import AtTemperature, recipe_from_json, saving, stopping
from notbugs.training.adversary import Adversary
from notbugs.training.trainer import Trainer
from packages import MADE

SMALL = ("--train-size", "300", "--epochs", "3")


NET = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


def run(*words) -> None:
    main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words):
    """What stderr says of a command that must be refused; a line without a traceback."""
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error:")
    assert "Traceback" not in said
    return said


def recipe_of(folder):
    return recipe_from_json(read_metadata(folder / "model.safetensors")["recipe"])


def killed_in(monkeypatch: pytest.MonkeyPatch, epoch, batch) -> None:
    """Training ends there, as by Ctrl-C, and has written a checkpoint after every step."""
    real, steps = Trainer.step, []

    def step(self, now, index, rate):
        steps.append(now)
        if (now, steps.count(now)) == (epoch, batch):
            raise KeyboardInterrupt
        return real(self, now, index, rate)

    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Trainer, "step", step)


def test_metrics_picture_and_recipe_lie_beside_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    run("train", "--recipe", "trades", "--threat", "linf:0.1", "--out", out, *SMALL)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        "Recipe trades at linf:0.1, 3 epochs, cnn on digits, batches of 64, learning rate 0.05, "
        "float32, weights of the last epoch: about "
    )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all({"loss", "lr"} <= set(row) for row in rows)
    assert {"val_clean", "val_robust"} <= set(rows[-1])
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.iterdir()) == [
        "metrics.jsonl", "model.safetensors", "training.png",
    ]  # fmt: skip
    facts = read_metadata(out / "model.safetensors")
    recipe = recipe_from_json(facts["recipe"])
    assert type(recipe.objective).__name__ == "Trades"
    assert recipe.adversary.threat == "linf:0.1"
    assert facts["history"] == rows
    assert facts["command"] == (
        "notbugs train --recipe trades --threat linf:0.1 --epochs 3 --train-size 300 --out model"
    )


def test_tensorboard_is_asked_for_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SystemExit):
        run("train", "--tensorboard", "--out", tmp_path / "m", *SMALL)
    assert not (tmp_path / "m" / "metrics.jsonl").exists()


def test_a_file_in_place_of_the_folder_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "taken"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        run("train", "--out", path, *SMALL)
    assert "`--out` must be a folder, or not there yet" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_every_setting_reaches_the_recipe_and_the_first_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    run("train", "--recipe", "pgd", "--threat", "l2:0.5", "--batch-size", 30, "--lr", 0.02,
        "--precision", "bf16", "--average", 0.9, "--patience", 2, "--out", out, *SMALL)  # fmt: skip
    recipe = recipe_of(out)
    assert (recipe.batch_size, recipe.lr, recipe.precision) == (30, 0.02, "bf16")
    assert (recipe.average, recipe.patience, recipe.select) == (0.9, 2, "best")
    assert recipe.watch_every == 1
    first = capsys.readouterr().out.splitlines()[0]
    for words in (
        "Recipe pgd at l2:0.5, 3 epochs",
        "batches of 30, learning rate 0.02, bf16",
        "weights averaged by 0.9 a step",
        "weights of the best held-out robust accuracy",
        "stopped after 2 epochs without a better one",
    ):
        assert words in first
    run("train", "--select", "best", "--out", tmp_path / "b", *SMALL)
    assert recipe_of(tmp_path / "b").select == "best"
    assert "weights of the best held-out clean accuracy" in capsys.readouterr().out


def test_patience_stops_and_saves_the_best_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([50.0, 60.0, 55.0, 54.0])
    monkeypatch.setattr(stopping, "percent_right", lambda model, data: next(values))
    run("train", "--patience", 2, "--train-size", 300, "--epochs", 9, "--out", tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "Stopped early in epoch 4" in said
    assert "The weights are those of epoch 2." in said
    assert len(read_metadata(tmp_path / "model.safetensors")["history"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--select", "bets"), "Unknown select 'bets'. Did you mean 'best'"),
        (("--patience", "-1"), "`patience` must be at least 0"),
        (("--average", "1"), r"`average` must lie in [0, 1)"),
        (("--batch-size", "0"), "`batch_size` must be at least 1"),
        (("--lr", "0"), "`lr` must be a finite number above 0"),
        (("--precision", "fp8"), "Unknown precision 'fp8'"),
        (("--temperature", "9"), "must come with --recipe distillation or --distil"),
        (("--recipe", "distillation", "--temperature", "0"), "`temperature` must be a finite"),
        (("--recipe", "distillation", "--threat", "l2:1"), "with the recipe 'distillation'"),
        (("--distil", "none.safetensors"), "No weights file 'none.safetensors'"),
        (
            ("--distil", "x.safetensors", "--recipe", "trades"),
            "`--distil` must come with a recipe that learns by cross-entropy alone; got 'trades'",
        ),
        (("--embedding", "fc"), "`--embedding` must come with --model"),
        (("--share", "0.5"), "`--share` must come with --extra"),
        (("--extra", "none.safetensors"), "No data file 'none.safetensors'"),
        (
            ("--extra", "x.npz", "--recipe", "distillation"),
            "`--extra` must be left out with distillation",
        ),
        (("--start", "none.safetensors"), "No weights file 'none.safetensors'"),
        (("--model", "net.py:make"), "`--model` must name a file"),
        (
            ("--model", "net.py:make", "--embedding", "1", "--architecture", "cnn"),
            "`--architecture` must be left out with --model",
        ),
        (("--architecture", "tim:resnet18"), "Unknown package of architectures 'tim'"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_the_work(
    words, message, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "train", *words, "--out", tmp_path / "m", *SMALL)
    assert not (tmp_path / "m").exists()


def test_a_finished_model_is_not_overwritten_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    run("train", "--out", out, *SMALL)
    before = (out / "model.safetensors").read_bytes()
    said = refused(capsys, "train", "--out", out, "--seed", 1, *SMALL)
    assert "`--out` must hold no finished model" in said
    assert "Choose another folder, or pass --overwrite to replace it" in said
    assert (out / "model.safetensors").read_bytes() == before
    run("train", "--out", out, "--seed", 1, "--overwrite", *SMALL)
    assert read_metadata(out / "model.safetensors")["split"]["seed"] == 1


def test_the_checkpoint_of_another_training_is_left_behind_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "m"
    run("train", "--out", whole, *SMALL)
    with monkeypatch.context() as patch:
        killed_in(patch, 1, 3)
        with pytest.raises(SystemExit, match="130"):
            run("train", "--out", out, "--seed", 1, *SMALL)
    capsys.readouterr()
    assert "belongs to another model, dataset, recipe, seed" in refused(
        capsys, "train", "--out", out, *SMALL
    )
    run("train", "--out", out, "--overwrite", *SMALL)
    first, second = (load_model(folder / "model.safetensors")[0] for folder in (whole, out))
    ours, theirs = first.state_dict(), second.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_unfinished_training_goes_on_in_the_middle_of_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "m"
    run("train", "--out", whole, *SMALL)
    with monkeypatch.context() as patch:
        killed_in(patch, 1, 3)
        with pytest.raises(SystemExit, match="130"):
            run("train", "--out", out, *SMALL)
    capsys.readouterr()
    assert [p.name for p in out.glob("*.safetensors")] == ["checkpoint.safetensors"]
    said = refused(capsys, "evaluate", out, "--threat", "l2:0.5")
    assert "but a checkpoint: this training was not finished. Run its command again." in said
    run("train", "--out", out, *SMALL)
    both = [load_model(folder / "model.safetensors")[0].state_dict() for folder in (whole, out)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    assert not (out / "checkpoint.safetensors").exists()


def test_a_model_of_ones_own_is_trained_saved_and_opened_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(NET)
    spec, out = f"{tmp_path / 'net.py'}:make", tmp_path / "m"
    run("train", "--model", spec, "--embedding", 2, "--train-size", 500, "--epochs", 8,
        "--out", out)  # fmt: skip
    assert f"{spec} on digits" in capsys.readouterr().out
    facts = read_metadata(out / "model.safetensors")
    assert (facts["architecture"], facts["embedding"], facts["model"]) == (None, "2", spec)
    options = ("--threat", "l2:0.3", "--method", "pgd", "--count", 40)
    said = refused(capsys, "evaluate", out, *options)
    assert "holds the weights of a model of your own. Pass its module: --model " + spec in said
    run("evaluate", out, "--model", spec, *options, "--json", tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text())["clean_accuracy"] > 70


@pytest.mark.parametrize("package", list(MADE))
def test_other_packages_architectures_are_trained_and_opened_again(
    package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, MADE[package]())
    run("train", "--architecture", f"{package}:resnet18", "--out", tmp_path, *SMALL)
    assert f"{package}:resnet18 on digits" in capsys.readouterr().out
    run("evaluate", tmp_path, "--threat", "l2:0.3", "--method", "pgd", "--count", 20)
    assert "20 images" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(capsys, "evaluate", tmp_path, "--threat", "l2:0.3")
    assert f"pip install {package}" in said


def test_a_saved_set_is_trained_on_as_a_dataset_without_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, out = tmp_path / "d_det.safetensors", tmp_path / "student"
    run("build", "det", "zoo:digits-cnn", "--threat", "l2:1", "--steps", 3, "--out", made)
    run("train", "--data", made, "--train-size", 800, "--epochs", 2, "--out", out)
    said = capsys.readouterr().out
    assert "made from digits. On its test images: notbugs evaluate" in said
    facts = read_metadata(out / "model.safetensors")
    assert (facts["dataset"], facts["split"]["train_size"]) == (str(made), 800)
    numbers = tmp_path / "v.json"
    options = ("--threat", "l2:0.3", "--method", "fgsm", "--json", numbers, "--overwrite")
    for data, count in (((), 420), (("--data", made), 420), (("--data", "digits"), 397)):
        run("evaluate", out, *options, *data)  # never on what was trained on
        assert json.loads(numbers.read_text())["n"] == count


HOT = ("--recipe", "distillation", "--temperature", 20, "--train-size", 400, "--epochs", 12)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("distilled") / "m"
    run("train", *HOT, "--out", out)
    return out


def test_distillation_trains_a_teacher_and_a_student_at_the_temperature(
    distilled, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = split(load_source("digits"), seed=0, train_size=400)
    models = {}
    for name in ("teacher", "."):
        model, facts = load_model(distilled / name / "model.safetensors")
        assert recipe_from_json(facts["recipe"]).objective == AtTemperature(20)
        assert accuracy(model, parts.test) > 75
        models[name] = model
        assert (distilled / name / "metrics.jsonl").read_text().count("\n") == 12
    assert facts["teacher"] == "teacher/model.safetensors"
    # Wanted were logits T times as large as usual, of which the softmax at T = 1 is all but sure.
    with torch.no_grad():
        sure = models["."].logits(parts.test.pixels()).softmax(dim=1).amax(dim=1)
    assert float(sure.median()) > 0.999
    first = next(iter(models["."].parameters()))
    assert not torch.equal(first, next(iter(models["teacher"].parameters())))


def test_a_teacher_that_is_there_is_learnt_from(
    distilled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = distilled / "teacher"
    run("train", "--distil", teacher, "--temperature", 20, "--out", tmp_path / "a",
        "--train-size", 400, "--epochs", 12)  # fmt: skip
    said = capsys.readouterr().out
    assert f"taught by '{teacher}' at temperature 20" in said
    assert "The teacher was trained on other images" not in said
    assert "PGD-20 on the margin" in " ".join(said.split())
    assert not (tmp_path / "a" / "teacher").exists()
    model, facts = load_model(tmp_path / "a" / "model.safetensors")
    assert facts["teacher"] == str(teacher)
    assert accuracy(model, split(load_source("digits"), seed=0, train_size=400).test) > 75
    run("train", "--distil", teacher, "--seed", 1, "--out", tmp_path / "b", *SMALL)
    assert "The teacher was trained on other images" in capsys.readouterr().out
    run("train", "--distil", teacher, "--recipe", "pgd", "--threat", "l2:0.5", "--out",
        tmp_path / "c", *SMALL)  # fmt: skip
    recipe = recipe_of(tmp_path / "c")
    assert (recipe.adversary.threat, recipe.objective) == ("l2:0.5", AtTemperature(100.0))


def test_a_killed_distillation_keeps_its_teacher(
    distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    with monkeypatch.context() as patch:
        killed_in(patch, 0, 10)  # five steps an epoch: the fifth of the student
        with pytest.raises(SystemExit, match="130"):
            run("train", *HOT, "--out", out)
    capsys.readouterr()
    assert (out / "teacher" / "model.safetensors").exists()
    assert not (out / "model.safetensors").exists()
    before = (out / "teacher" / "model.safetensors").stat().st_mtime_ns
    other = ("train", *HOT[:2], "--temperature", 30, *HOT[4:], "--out", out)
    assert "belongs to another training" in refused(capsys, *other)
    run("train", *HOT, "--out", out)
    assert (out / "teacher" / "model.safetensors").stat().st_mtime_ns == before
    both = [load_model(folder / "model.safetensors")[0].state_dict() for folder in (distilled, out)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_help_names_the_threats_that_are_really_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("train", "--help")
    said = " ".join(re.sub(r"[│]", " ", capsys.readouterr().out).split())
    told = re.search(r"Without it (.*?)\. \(default: none\)", said)[1]
    found = {
        name.strip(): threat
        for threat, names in re.findall(r"(l2:[\d.]+) \(([^)]+)\)", told)
        for name in names.split(",")
    }
    names = ("digits", "mnist", "fashion-mnist", "planted", "cifar10", "cifar100", "folder")
    for name in names:
        adversary = config_for(f"{name}:x" if name == "folder" else name, "laptop").robust.adversary
        assert isinstance(adversary, Adversary)
        assert float(found[name].split(":")[1]) == float(adversary.threat.split(":")[1])
    assert set(found) == set(names)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory):
    """Images of digits that are not among the training images, as a set and as an archive."""
    folder = tmp_path_factory.mktemp("generated")
    data = split(load_source("digits"), seed=0, train_size=300).test
    save(replace(data, name="generated"), folder / "set.safetensors")
    export_npz(replace(data, name="archived"), folder / "set.npz")
    return folder


def test_extra_images_and_their_share_are_said_and_recorded(
    generated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = load_set(generated / "set.safetensors")
    run("train", "--extra", generated / "set.safetensors", "--out", tmp_path / "a", *SMALL)
    assert f"70 % of each batch from 'generated' ({len(extra)} images)" in capsys.readouterr().out
    facts = read_metadata(tmp_path / "a")
    assert facts["extra"] == {"name": "generated", "digest": extra.digest, "share": 0.7}
    run("train", "--extra", generated / "set.npz", "--share", 0.5, "--out", tmp_path / "b", *SMALL)
    assert read_metadata(tmp_path / "b")["extra"]["share"] == 0.5
    first, second = (load_model(tmp_path / name)[0].state_dict() for name in "ab")
    assert not any(torch.equal(first[k], second[k]) for k in first if k.startswith("body"))
    said = refused(capsys, "train", "--extra", generated / "set.npz", "--share", 1, "--out",
                   tmp_path / "c", *SMALL)  # fmt: skip
    assert "`share` must lie between 0 and 1" in said
    assert not (tmp_path / "c").exists()


def two_classes(folder):
    """A set of two classes: digits of 0 and 1, as PNG images in folders."""
    data = load_source("digits").train
    few = data.select((data.labels < 2).nonzero()[:130, 0])
    export_folder(ImageData(few.images, few.labels, ("0", "1"), "two"), folder / "two")
    return f"folder:{folder / 'two'}"


def test_training_starts_from_weights_of_the_same_and_of_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, same, other = tmp_path / "old", tmp_path / "same", tmp_path / "other"
    run("train", "--out", old, *SMALL)
    capsys.readouterr()
    run("train", "--start", old, "--epochs", 1, "--lr", 1e-6, *SMALL[:2], "--out", same)
    said = capsys.readouterr().out
    assert f"from '{old}', weights of the last epoch" in said
    assert "trained on other images" not in said
    first, second = (load_model(folder)[0].state_dict() for folder in (old, same))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-3, rtol=1e-3)
    start = read_metadata(same)["start"]
    digest = hashlib.sha256((old / "model.safetensors").read_bytes()).hexdigest()
    assert start == {"weights": "old", "digest": digest, "new_last_layer": False}
    data = two_classes(tmp_path)
    run("train", "--start", old, "--data", data, "--epochs", 1, "--lr", 1e-6, "--out", other)
    assert f"from '{old}' with a new last layer for 2 classes" in capsys.readouterr().out
    third = load_model(other)[0].state_dict()
    assert third["body.head.weight"].shape == (2, 64)
    for name, value in first.items():
        if "head" not in name:
            torch.testing.assert_close(third[name], value, atol=1e-3, rtol=1e-3)
    assert read_metadata(other)["start"]["new_last_layer"]


def test_a_start_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, out = tmp_path / "large.safetensors", tmp_path / "m"
    save_model(build("cnn", shape=(1, 28, 28), classes=10, seed=0), large)
    said = refused(capsys, "train", "--start", large, "--out", out, *SMALL)
    assert "holds a model of images of shape (1, 28, 28), not (1, 8, 8)" in said
    said = refused(capsys, "train", "--start", large, "--architecture", "mlp", "--out", out, *SMALL)
    assert "`--architecture` must be left out, or be that of --start, cnn; got 'mlp'" in said
    (tmp_path / "net.py").write_text(NET)
    spec, mine = f"{tmp_path / 'net.py'}:make", tmp_path / "mine"
    run("train", "--model", spec, "--out", mine, *SMALL)
    said = refused(capsys, "train", "--start", mine, "--out", out, *SMALL)
    assert f"holds a model of your own. Add --model {spec}." in said
    run("train", "--start", mine, "--model", spec, "--out", out, *SMALL)
    assert read_metadata(out)["start"]["weights"] == "mine"


def test_a_start_of_the_zoo_and_one_that_saw_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("train", "--start", "zoo:digits-linear", "--epochs", 1, "--train-size", 300)
    run(*given, "--seed", 1, "--out", tmp_path / "m")
    said = " ".join(capsys.readouterr().out.split())
    assert "The weights of --start were trained on other images" in said
    assert "linear on digits" in said
    assert read_metadata(tmp_path / "m")["start"]["weights"] == "zoo:digits-linear"


def test_a_teacher_of_another_start_is_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = tmp_path / "m", ("train", "--recipe", "distillation", *SMALL)
    run(*given, "--architecture", "linear", "--start", "zoo:digits-linear", "--out", out)
    (out / "model.safetensors").unlink()
    said = refused(capsys, *given, "--architecture", "linear", "--out", out)
    assert "belongs to another training" in said


def test_a_checkpoint_of_another_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, starts = tmp_path / "m", [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    for seed, path in enumerate(starts):
        save_model(build("mlp", shape=(1, 8, 8), classes=10, seed=seed), path)
    with monkeypatch.context() as patch:
        killed_in(patch, 1, 3)
        with pytest.raises(SystemExit, match="130"):
            run("train", "--start", starts[0], "--out", out, *SMALL)
    capsys.readouterr()
    for words in ((), ("--start", starts[1])):
        said = refused(capsys, "train", "--architecture", "mlp", *words, "--out", out, *SMALL)
        assert "belongs to another model, dataset, recipe, seed" in said
    run("train", "--start", starts[0], "--out", out, *SMALL)
    run("train", "--start", starts[0], "--out", tmp_path / "whole", *SMALL)
    both = [load_model(folder)[0].state_dict() for folder in (out, tmp_path / "whole")]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
