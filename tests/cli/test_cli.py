"""The command line as a user meets it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import notbugs
from experiments import tiny_paper
from notbugs import cli
from notbugs.attacks.named import METHODS, attack_named
from notbugs.cli import main
from notbugs.cli.console import PlainConsole
from notbugs.cli.progress import StageDisplay
from notbugs.cli.running import PLACES, parsed
from notbugs.core import random
from notbugs.data import load_source, split
from notbugs.engine import Threat
from notbugs.experiments.papers import PAPERS
from notbugs.models import load as load_model
from victims import killed_once

ILYAS = ("reproduce", "ilyas2019")
SMALL = (*ILYAS, "--preset", "smoke", "--set", 'sets=["R"]', "--epochs", "3")
"""A part of the experiment: with robust models, students and pictures, and soon drawn."""
COMMANDS = [*cli.COMMANDS]


def call(*arguments) -> None:
    main([str(a) for a in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments):
    """What stderr says of a call that must fail in one line, with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        call(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("error:")
    lines = said.splitlines()
    assert all(line.startswith("  While: ") for line in lines[1:]), said
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete_and_has_examples(command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(command, "--help")
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "usage: notbugs" in said
    if command not in ("data", "photo", "zoo"):
        assert f"notbugs {command}" in said.split("positional")[0].split("options ─")[0]


def test_the_screen_of_help_needs_no_torch_and_names_every_command() -> None:
    lines: dict[str, str] = {}
    for word in ("--help", "-h", "help", "--version"):
        code = (
            f"import sys; from notbugs.cli import main\n"
            f"try: main([{word!r}])\n"
            "except SystemExit as stop: assert stop.code == 0\n"
            "assert not {'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines[word] = done.stdout
    assert lines["--help"] == lines["-h"] == lines["help"]
    assert lines["--version"] == f"{notbugs.__version__}\n"
    screen = lines["--help"].splitlines()
    assert len(screen) <= 24
    assert max(map(len, screen)) <= 92
    listed = [line.split()[0] for line in screen if line.startswith("  ")]
    assert listed == [*cli.COMMANDS]
    assert set(PLACES) == set(cli.COMMANDS)


def test_options_that_may_be_left_out_read_well(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "{None}" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["train", "--out", "x", "--epochs", "many"])
    assert caught.value.code == 2
    assert "--epochs: must be a whole number; got 'many'" in capsys.readouterr().err
    assert parsed(["train", "--out", "x", "--epochs", "none"], PlainConsole()).epochs is None
    with pytest.raises(SystemExit):
        main(["train", "--out", "x", "--epoch", "3"])
    assert "--epochs INT" in capsys.readouterr().err


def test_without_a_command_help_is_shown_and_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "reproduce" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--tyro-print-completion", shell])
    assert not caught.value.code
    said = capsys.readouterr().out
    assert all(command in said for command in cli.COMMANDS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("trained")
    call("train", "--out", folder, "--train-size", 500, "--epochs", 6)
    return folder / "model.safetensors"


@pytest.mark.parametrize(("fast", "copy"), [("none", "own"), ("float32", "float32")])
def test_evaluate_works_on_the_copy_that_is_named(
    trained, tmp_path: Path, fast: str, copy: str
) -> None:
    path = tmp_path / "verdict.json"
    call("evaluate", trained, "--threat", "l2:0.5", "--count", 10, "--method", "pgd", "--steps", 2,
         "--fast", fast, "--json", path)  # fmt: skip
    assert json.loads(path.read_text())["attacks"][0]["copy"] == copy


def test_evaluate_writes_its_verdict(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.json"
    call("evaluate", trained, "--threat", "l2:0.5", "--count", 100, "--method", "pgd",
         "--json", path)  # fmt: skip
    said = capsys.readouterr().out
    verdict = json.loads(path.read_text())
    assert verdict["threat"] == "l2:0.5"
    assert verdict["n"] == 100
    assert f"{verdict['robust_accuracy']:.2f}" in said
    assert verdict["robust_accuracy"] <= verdict["clean_accuracy"]
    assert verdict["clean_accuracy"] > 60
    assert set(verdict) == {
        "threat", "n", "clean_accuracy", "robust_accuracy", "ci95", "attacks", "masking", "seconds",
        "forwards_per_image", "robust_accuracy_is_upper_bound", "samples", "method", "seed",
        "weights_sha256", "images_digest", "outcomes", "versions",
    }  # fmt: skip
    assert len(verdict["outcomes"]) == 100
    low, high = verdict["ci95"]
    assert 0 <= low <= verdict["robust_accuracy"] <= high <= 100
    (attack,) = verdict["attacks"]
    assert set(attack) == {"name", "broken", "seconds", "copy"}
    lost = verdict["clean_accuracy"] - verdict["robust_accuracy"]
    assert attack["broken"] == round(lost)  # of 100 images
    assert {frozenset(line) for line in verdict["masking"]} == {
        frozenset({"check", "evidence", "verdict"})
    }
    assert 0 < verdict["forwards_per_image"] <= 2 + 21


def test_samples_are_for_random_models_and_said(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.json"
    call("evaluate", trained, "--threat", "l2:0.5", "--count", 20, "--method", "pgd", "--steps", 2,
         "--samples", 3, "--json", path)  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "attacked on the average of 3 passes, and evaluated by the majority vote of as many" in said
    )
    assert json.loads(path.read_text())["samples"] == 3
    assert "`samples` must be at least 1; got 0" in refused(
        capsys, "evaluate", trained, "--threat", "l2:0.5", "--method", "pgd", "--samples", 0
    )


def test_the_verdict_repeats_and_restarts_only_lower_it(trained, tmp_path: Path) -> None:
    said = []
    for name, restarts in (("a", 1), ("b", 1), ("c", 3)):
        path = tmp_path / f"{name}.json"
        call("evaluate", trained, "--threat", "l2:0.5", "--count", 100, "--method", "pgd",
             "--restarts", restarts, "--json", path)  # fmt: skip
        said.append(json.loads(path.read_text())["robust_accuracy"])
    assert said[0] == said[1] >= said[2]


def test_the_standard_evaluation_says_what_it_costs_and_what_each_attack_broke(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.json"
    call("evaluate", trained, "--threat", "l2:1.5", "--count", 12, "--json", path)
    said = capsys.readouterr().out
    verdict = json.loads(path.read_text())
    names = ["APGD-100", "APGD-T-100", "FAB-T-100", "Square-5000"]
    assert [attack["name"] for attack in verdict["attacks"]] == names
    assert all(name in said for name in names)
    assert "At most about" in said
    broken = sum(attack["broken"] for attack in verdict["attacks"])
    lost = verdict["clean_accuracy"] - verdict["robust_accuracy"]
    assert lost == pytest.approx(100 * broken / 12)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_by_its_name(name, trained, capsys: pytest.CaptureFixture[str]) -> None:
    norm = METHODS[name].norms[-1]
    eps = {"linf": "0.1", "l2": "0.5", "l1": "2", "l0": "3"}[norm]
    steps = [] if "steps" not in METHODS[name].takes else ["--steps", 4]
    call("attack", trained, "--threat", f"{norm}:{eps}", "--method", name, "--count", 4, *steps)
    said = " ".join(capsys.readouterr().out.split())
    assert "4 images" in said
    nearest = attack_named(name, Threat.parse(f"{norm}:{eps}")).threat is None
    assert nearest == ("At any distance" in said)


def test_attack_saves_and_checks_after_rounding(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from notbugs.data import load

    call("attack", trained, "--threat", "linf:32/255", "--count", 50, "--save",
         tmp_path / "a.safetensors", "--png", tmp_path / "png")  # fmt: skip
    said = capsys.readouterr().out
    made = load(tmp_path / "a.safetensors")
    assert len(made) == 50
    assert made.provenance["norm"] == "linf"
    assert "hold after rounding to 8 bits" in said
    assert len(list((tmp_path / "png").rglob("*.png"))) == 50
    call("attack", trained, "--threat", "l2:1", "--method", "fgsm", "--target", 3, "--count", 50)
    assert "classified as 3" in capsys.readouterr().out


def test_what_is_saved_is_what_was_found_and_the_pngs_are_judged_anew(
    trained, tmp_path: Path
) -> None:
    from notbugs.data import load

    save, png, told = tmp_path / "a.safetensors", tmp_path / "png", tmp_path / "told.json"
    call("attack", trained, "--threat", "l2:0.6", "--steps", 8, "--count", 40, "--save", save,
         "--png", png, "--json", told)  # fmt: skip
    model, facts = load_model(trained)
    test = split(load_source("digits"), seed=0, train_size=facts["split"]["train_size"]).test
    x, y = test.pixels(slice(0, 40)), test.labels[:40]
    attack = attack_named("pgd", Threat.parse("l2:0.6"), steps=8)
    found = attack(model.eval(), x, y, keys=random.row_keys(40, 0, "attack"))
    made = load(save)
    assert torch.equal(made.images, found.x_adv)  # to the last bit
    assert torch.equal(made.columns["success"], found.success)
    with (png / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = torch.stack([torch.from_numpy(np.array(Image.open(png / r["file"]))) for r in rows])
    pixels = images[:, None].float() / 255
    with torch.no_grad():
        broken = model.logits(pixels).argmax(dim=1) != y
    assert [int(r["success"]) for r in rows] == broken.int().tolist()
    assert [int(r["label"]) for r in rows] == y.tolist()
    clean = (255 * x).round() / 255
    assert float((pixels - clean).flatten(1).norm(dim=1).max()) <= 0.6 * (1 + 1e-6)
    numbers = json.loads(told.read_text())
    assert numbers["png"]["attack_success_rate"] == pytest.approx(
        100 * float(broken.float().mean())
    )
    assert numbers["png"]["held"] == int((broken & found.success).sum())
    assert numbers["attack_success_rate"] == pytest.approx(found.attack_success_rate)
    assert "curves" not in numbers


def test_distances_are_those_of_images_that_were_right_and_fell(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told.json"
    call("attack", trained, "--threat", "l2:0.6", "--steps", 8, "--count", 60, "--json", told)
    said, numbers = " ".join(capsys.readouterr().out.split()), json.loads(told.read_text())
    model, facts = load_model(trained)
    test = split(load_source("digits"), seed=0, train_size=facts["split"]["train_size"]).test
    x, y = test.pixels(slice(0, 60)), test.labels[:60]
    attack = attack_named("pgd", Threat.parse("l2:0.6"), steps=8)
    found = attack(model.eval(), x, y, keys=random.row_keys(60, 0, "attack"))
    fell = found.success & ~found.already_wrong
    assert bool(found.already_wrong.any())  # else nothing is tested here
    mean = float(found.distance[fell].mean())
    assert mean > float(found.distance.mean())  # the others count as 0
    assert numbers["mean_distance"] == pytest.approx(mean)
    were = f"mean l2 distance of the {int(fell.sum())} broken images {mean:.4f}."
    assert were in said
    call("attack", trained, "--threat", "l2:0.0001", "--count", 20, "--json", told)
    assert "no image was broken." in " ".join(capsys.readouterr().out.split())
    assert json.loads(told.read_text())["mean_distance"] is None


def test_a_folder_stands_for_the_weights_in_it(
    trained, finished_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "det.safetensors"
    call("attack", trained.parent, "--threat", "l2:0.5", "--count", 5)
    call("build", "det", trained.parent, "--threat", "l2:1", "--steps", 2, "--count", 20, "--out",
         out)  # fmt: skip
    call("evaluate", trained.parent, "--threat", "l2:0.5", "--method", "pgd", "--count", 5)
    capsys.readouterr()
    said = refused(capsys, "evaluate", finished_run / "models", "--threat", "l2:0.5")
    assert "holds no model.safetensors, but robust-seed0.safetensors, " in said
    assert "and more. Name the file." in said
    (tmp_path / "empty").mkdir()
    said = refused(capsys, "evaluate", tmp_path / "empty", "--threat", "l2:0.5")
    assert "nor any other .safetensors file. Name the file." in said


def size_of_png(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_plot_of_a_nearest_method_draws_its_distances(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, told = tmp_path / "new" / "near.png", tmp_path / "near.json"
    call("attack", trained, "--threat", "l2:0.5", "--method", "fmn", "--steps", 15, "--count", 40,
         "--plot", plot, "--json", told)  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    assert "Curves:" in said
    assert "near.png" in said
    width, height = size_of_png(plot)
    assert width > 1.5 * height > 900
    numbers = json.loads(told.read_text())
    curve, distances = numbers["curves"]["accuracy"], numbers["curves"]["distances"]
    assert set(numbers["curves"]) == {"accuracy", "distances"}
    assert curve["exact"] is True
    assert (curve["n"], curve["norm"]) == (40, "l2")
    assert curve["accuracy"][0] == pytest.approx(100 - numbers["already_wrong"])
    near = [d for d in distances["distances"] if d is not None]
    assert curve["eps"][1:] == sorted(set(near))
    assert f"median {distances['median']:.4f}" in said
    within = sum(d <= 0.5 for d in near) / 0.4 + numbers["already_wrong"]
    assert numbers["attack_success_rate"] == pytest.approx(within)  # the threat's, not any
    assert f"40 images: {within:.1f} % misclassified;" in said
    assert numbers["at_any_distance"] > within


def test_each_of_several_methods_writes_its_own_files(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, png = tmp_path / "told.json", tmp_path / "png"
    both = ("attack", trained, "--threat", "l2:0.5", "--method", "PGD-3")
    said = refused(capsys, *both, "cw", "--confidence", 1)
    assert "`--confidence` must be an option of PGD-3" in said
    assert "each method once; got PGD-3, pgd_3" in refused(capsys, *both, "pgd_3")
    call("attack", trained, "--threat", "l2:0.5", "--method", "PGD-3", "hsj-1", "--count", 12,
         "--png", png, "--json", told)  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    rates = [json.loads((tmp_path / f"told-{name}.json").read_text()) for name in
             ("pgd-3", "hop-skip-jump-1")]  # fmt: skip
    assert [r["attack"] for r in rates] == ["PGD-3", "HopSkipJump-1"]
    assert sorted(p.name for p in png.iterdir()) == ["hop-skip-jump-1", "pgd-3"]
    clash = ("attack", trained, "--threat", "linf:0.1", "--method", "di-fgsm", "fgsm", "--save",
             tmp_path / "x.safetensors", "--json", tmp_path / "x-di.json")  # fmt: skip
    top = max(r["attack_success_rate"] for r in rates)
    any_of_them = float(said.split("By any of them: ")[1].split(" %")[0])
    assert any_of_them >= round(top, 1)
    call(*clash, "--count", 5)
    assert json.loads((tmp_path / "x-di-fgsm.json").read_text())["attack"] == "FGSM"
    same = ("--save", tmp_path / "y.safetensors", "--json", tmp_path / "y.json")
    both = ("attack", trained, "--threat", "linf:0.1", "--method", "fgsm")
    assert "must differ from" in refused(capsys, *both, "di", *same)
    assert "Unknown method '../x'" in refused(capsys, *both, "../x", *same)


def test_confident_successes_survive_rounding(trained, tmp_path: Path) -> None:
    told, rows = tmp_path / "told.json", []
    for confidence in (0, 2):
        call("attack", trained, "--threat", "l2:1", "--method", "cw", "--steps", 60, "--count", 30,
             "--confidence", confidence, "--png", tmp_path / f"png{confidence}", "--json",
             told)  # fmt: skip
        rows.append(json.loads(told.read_text()))
    plain, confident = rows
    assert confident["mean_distance"] > plain["mean_distance"]
    assert confident["png"]["attack_success_rate"] >= plain["png"]["attack_success_rate"]
    assert confident["png"]["attack_success_rate"] == confident["at_any_distance"]


def test_plot_of_a_fixed_budget_draws_its_loss(trained, tmp_path: Path) -> None:
    plot, told = tmp_path / "pgd.png", tmp_path / "pgd.json"
    call("attack", trained, "--threat", "l2:0.5", "--steps", 6, "--restarts", 2, "--count", 40,
         "--plot", plot, "--json", told, "--radii", 4)  # fmt: skip
    size_of_png(plot)
    numbers = json.loads(told.read_text())
    curve, loss = numbers["curves"]["accuracy"], numbers["curves"]["loss"]
    assert curve["eps"] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    assert curve["accuracy"][2] <= 100 - numbers["attack_success_rate"] + 1e-9
    assert [len(run["mean"]) for run in loss["runs"]] == [7, 7]
    assert loss["runs"][-1]["reached"][-1] == pytest.approx(numbers["attack_success_rate"])
    call("attack", trained, "--threat", "linf:0.8", "--method", "fgsm", "--count", 9, "--radii", 3,
         "--json", told)  # fmt: skip
    radii = json.loads(told.read_text())["curves"]["accuracy"]["eps"]
    assert radii == pytest.approx([0, 1 / 3, 2 / 3, 0.8, 1])  # none beyond black and white


def test_what_attack_cannot_write_is_refused_before_the_work(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    monkeypatch.setattr("notbugs.cli.attack_run.AttackRun.attack_all", None)  # never reached
    both, pgd = tmp_path / "both", ("attack", trained, "--threat", "l2:1")
    cases = [
        (("--plot", tmp_path / "a.pdf"), "`--plot` must end in .png"),
        (("--plot", tmp_path / "file" / "a.png"), "Cannot write"),
        (("--json", tmp_path / "file" / "a.json"), "Cannot write"),
        (("--save", tmp_path / "a.pt"), "`--save` must end in .safetensors"),
        (("--save", tmp_path / "file" / "a.safetensors"), "Cannot write"),
        (("--png", tmp_path / "full"), "not empty"),
        (("--png", tmp_path / "file" / "png"), "Cannot write"),
        (
            ("--save", both.with_suffix(".safetensors"), "--json", both.with_suffix(".json")),
            "`--json` must differ from --save's recipe",
        ),
        (("--plot", tmp_path / "a.png", "--target", 3), "`--target` must be left out with --plot"),
        (("--radii", 5), "`--radii` must come with --plot or --json"),
        (("--radii", 0, "--json", tmp_path / "a.json"), "`--radii` must be at least 1"),
        (
            ("--radii", 5, "--method", "fmn", "--plot", tmp_path / "a.png"),
            "`--radii` must be left out for fmn",
        ),
    ]
    for arguments, words in cases:
        said = refused(capsys, *pgd, *arguments)
        assert words in said, (arguments, said)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


def test_build_show_and_export(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    det = tmp_path / "det.safetensors"
    call("build", "det", trained, "--threat", "l2:1", "--steps", 5, "--count", 60, "--out", det)
    assert "D_det: 60 images" in capsys.readouterr().out
    call(
        "build",
        "nonrobust",
        trained,
        "--steps",
        5,
        "--count",
        60,
        "--out",
        tmp_path / "n.safetensors",
    )
    said = capsys.readouterr().out
    assert "representation error" in said
    assert "D_R is of a robust model" not in said
    call(
        "build", "robust", trained, "--steps", 2, "--count", 9, "--out", tmp_path / "r.safetensors"
    )
    assert "D_R is of a robust model" in capsys.readouterr().out
    call("data", "show", det)
    assert "D_det" in capsys.readouterr().out
    call("data", "export", det, "--to", tmp_path / "det.npz")
    assert len(np.load(tmp_path / "det.npz")["labels"]) == 60
    call("data", "list")
    assert "fashion-mnist" in capsys.readouterr().out


def test_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    spec = f"{tmp_path / 'net.py'}:make"
    out = tmp_path / "run"
    call(*SMALL, "--workers", 0, "--model", spec, "--embedding", 2, "--out", out)
    assert (out / "report.html").exists()
    weights = out / "models" / "standard-seed0.safetensors"
    capsys.readouterr()
    call(
        "evaluate",
        weights,
        "--threat",
        "l2:0.5",
        "--model",
        spec,
        "--embedding",
        2,
        "--data",
        "digits",
        "--method",
        "pgd",
    )
    assert "60 images" in capsys.readouterr().out  # the run's own test split, not another one
    said = refused(capsys, "evaluate", weights, "--threat", "l2:1", "--model", spec, "--embedding",
                   "nope", "--data", "digits")  # fmt: skip
    assert "nope" in said


def pictures(folder, sizes) -> str:
    for label, size in sizes.items():
        (folder / label).mkdir(parents=True)
        if size:
            Image.new("L", size).save(folder / label / "0.png")
    return f"folder:{folder}"


def test_bad_input_is_one_clear_line(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "model.pt")
    (tmp_path / "short.safetensors").write_bytes(trained.read_bytes()[:300])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    empty = pictures(tmp_path / "empty", {"a": (4, 4), "b": None})
    mixed = pictures(tmp_path / "mixed", {"a": (4, 4), "b": (5, 4)})
    single = pictures(tmp_path / "single", {"a": (4, 4)})
    out = ("--out", tmp_path / "new")
    new = ("--out", tmp_path / "new.safetensors")
    _, facts = load_model(trained)
    parts = split(load_source("digits"), seed=0, train_size=facts["split"]["train_size"])
    first = int(parts.test.labels[0])  # the only image is already of the target class
    cases = [
        (("evaluate", trained, "--threat", "linf:8"), "Write linf:8/255"),
        (("evaluate", trained, "--threat", "l2:0"), "above 0"),
        (("evaluate", trained, "--threat", "l2:1", "--steps", 9), "come with another --method"),
        (
            ("evaluate", trained, "--threat", "l2:1", "--method", "pgd", "--thorough"),
            "come with --method standard",
        ),
        (("evaluate", trained, "--threat", "l2:1", "--method", "pdg"), "Did you mean 'pgd'"),
        (("evaluate", trained, "--threat", "l2;1"), "norm:eps"),
        (("evaluate", trained, "--threat", "l2:1", "--fast", "float64"), "float32"),
        (("evaluate", tmp_path / "model.pt", "--threat", "l2:1"), "pickle"),
        (("evaluate", tmp_path / "short.safetensors", "--threat", "l2:1"), "truncated"),
        (("evaluate", tmp_path / "none.safetensors", "--threat", "l2:1"), "none.safetensors"),
        (("evaluate", trained, "--threat", "l2:1", "--data", "planted"), "shape"),
        (("attack", trained, "--threat", "l2:1", "--method", "pdg"), "Did you mean 'pgd'"),
        (("attack", trained, "--threat", "l1:1", "--method", "cw"), "that cw supports; got l1:1"),
        (
            ("attack", trained, "--threat", "l2:1", "--method", "cw", "--restarts", 2),
            "`--restarts` must be an option of cw",
        ),
        (("evaluate", trained, "--threat", "l2:1", "--count", 0), "`--count` must be at least 1"),
        (("evaluate", trained, "--threat", "l2:1", "--count", "-5"), "at least 1; got -5"),
        (
            ("evaluate", trained, "--threat", "l2:1", "--method", "pgd", "--steps", 0),
            "`steps` must be at least 1",
        ),
        (
            ("evaluate", trained, "--threat", "l2:1", "--method", "pgd", "--restarts", 0),
            "`restarts` must be at least",
        ),
        (
            ("evaluate", trained, "--threat", "l2:1", "--json", tmp_path / "file" / "v.json"),
            "Cannot write",
        ),
        (("evaluate", trained, "--threat", "l2:1", "--model", "net.py:make"), "--data"),
        (
            (
                "evaluate",
                trained,
                "--threat",
                "l2:1",
                "--model",
                "no.py:make",
                "--embedding",
                "1",
                "--data",
                "digits",
            ),
            "no.py",
        ),
        (("attack", trained, "--threat", "l2:1", "--save", tmp_path / "a.pt"), ".safetensors"),
        (("attack", trained, "--threat", "l2:1", "--target", 10), "lie in 0..9"),
        (("attack", trained, "--threat", "l2:1", "--target", first, "--count", 1), "image"),
        (("build", "robst", trained, *out), "Did you mean 'robust'"),
        (("build", "det", trained, *out), "--threat"),
        (
            ("build", "det", trained, *new, "--threat", "l2:1", "--steps", 0),
            "`steps` must be at",
        ),
        (("build", "robust", trained, *new, "--steps", 0), "`steps` must be at least 1"),
        (("build", "robust", trained, *new, "--step-size", 0), "`step_size` must be a finite"),
        (("build", "robust", trained, *new, "--start", "nose"), "Did you mean 'noise'"),
        (
            ("build", "det", trained, *new, "--threat", "l2:1", "--start", "noise"),
            "`--start` must be left out for 'det'",
        ),
        (("train", "--train-size", 0, *out), "`train_size` must be at least 2"),
        (("train", "--epochs", 0, *out), "`epochs` must be at least 1"),
        (
            ("train", "--out", tmp_path / "file", "--epochs", 1, "--train-size", 100),
            "must be a folder",
        ),
        (("data", "export", "digits", "--to", tmp_path / "d.zip"), "Unknown format '.zip'"),
        (("data", "export", "digits", "--to", tmp_path / "file" / "d.npz"), "Cannot write"),
        (("data", "export", "digits", "--to", tmp_path / "mine"), "not empty"),
        (
            (*ILYAS, "--workers", "-1", *out, "--preset", "smoke"),
            "`workers` must be at least",
        ),
        (
            (*ILYAS, "--threads", 0, *out, "--preset", "smoke"),
            "`threads` must be at least 1",
        ),
        ((*ILYAS, "--set", "eps_sets=[1, 1]", *out), "each radius once"),
        (
            (*ILYAS, "--train-size", 5000, *out, "--preset", "smoke"),
            "leave test images",
        ),
        ((*ILYAS, "--model", "net.py:make", *out), "`--model` must name a file"),
        (("train", "--recipe", "pdg", *out), "Did you mean 'pgd'"),
        (("train", "--architecture", "resnet19", *out), "Did you mean 'resnet18'"),
        (
            ("train", "--threat", "l2:1", *out),
            "must be left out with the recipe",
        ),
        (("train", "--train-size", 40, *out), "Use a batch size of at most"),
        (("reproduce", "ilyas2018", *out), "Did you mean 'ilyas2019'"),
        (("reproduce", "--preset", "smoke"), "`experiment` must be named"),
        (
            ("reproduce", "szegedy2013", "--architecture", "cnn", *out),
            "`--architecture` must be left out with this experiment",
        ),
        (("reproduce", "szegedy2013", "--set", "image=1", *out), "Did you mean 'images'"),
        (("reproduce", "szegedy2013", "--data", "cifar10", *out), "Known: digits"),
        ((*ILYAS, "--data", "digts", *out), "Did you mean 'digits'"),
        ((*ILYAS, "--preset", "labtop", *out), "Did you mean 'laptop'"),
        ((*ILYAS, "--seeds", 0, *out), "`seeds` must be at least 1"),
        ((*ILYAS, "--set", "eps_sets=[-1]", *out), "above 0"),
        ((*ILYAS, "--set", "eps_eval=0", *out), "above 0"),
        ((*ILYAS, "--set", "eps_set=[1]", *out), "Did you mean 'eps_sets'"),
        ((*ILYAS, "--set", "student.epoch=1", *out), "Did you mean 'epochs'"),
        ((*ILYAS, "--out", tmp_path / "mine"), "not a run of notbugs"),
        ((*ILYAS, "--out", tmp_path / "file"), "Cannot use"),
        ((*ILYAS, "--data", empty, *out, "--preset", "smoke"), "empty"),
        (("data", "show", empty), "empty"),
        (("data", "show", mixed), "size"),
        (("data", "show", single), "class"),
        (("data", "show", "mnits"), "Did you mean 'mnist'"),
    ]
    if not torch.cuda.is_available():
        cases.append((("train", "--device", "cuda", *out), "--device cpu"))
    for arguments, words in cases:
        said = refused(capsys, *arguments)
        assert words in said, (arguments, said)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    call(*SMALL, "--workers", 0, "--out", out)
    return out


def stages_of(folder: Path) -> int:
    """The stages of a finished run, but for the one that chose the radius before the others."""
    return len(list((folder / "store").glob("*/*/meta.json"))) - 1


def test_a_folder_holds_one_run(finished_run, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    said = refused(
        capsys,
        "reproduce",
        "ilyas2019",
        "--data",
        "planted",
        "--preset",
        "smoke",
        "--out",
        finished_run,
    )
    assert "holds another run" in said
    assert "ilyas2019" in said


def test_without_a_name_the_papers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    call("reproduce")
    said = capsys.readouterr().out
    for name in ("ilyas2019", "engstrom2019", "szegedy2013"):
        assert name in said
    assert "digits 15 min" in said


def test_finished_runs_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "szegedy2013-digits-smoke"
    folder.mkdir(parents=True)
    call("reproduce")
    assert "finished" not in capsys.readouterr().out
    (folder / "results.json").write_text("{}")
    call("reproduce")
    assert "finished: runs/szegedy2013-digits-smoke" in capsys.readouterr().out


def test_a_page_is_drawn_again_from_what_is_stored(
    finished_run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = finished_run / "report.html"
    before = page.read_text()
    page.unlink()
    call("report", finished_run)
    assert "Claims: " in capsys.readouterr().out
    assert page.read_text() == before
    assert "folder that `notbugs reproduce` wrote" in refused(capsys, "report", tmp_path)


def test_a_paper_is_run_with_settings_and_says_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAPERS, "tiny", tiny_paper.EXPERIMENT)
    given = ["--preset", "smoke", "--set", "eps=0.2", "--set", "recipe.epochs=1"]
    out = ("--workers", 0, "--out", tmp_path / "run")
    call("reproduce", "tiny", *given, "--seeds", 1, *out)
    said = capsys.readouterr().out
    assert "undecided" in said
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["conditions"]["config"]["eps"] == 0.2
    command = result["command"]
    assert command in (tmp_path / "run" / "report.html").read_text()
    call(*command.split()[1:], *out)
    assert "0 stages to do" in capsys.readouterr().out


def test_the_same_command_again_shows_the_result_at_once(
    finished_run, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (*SMALL, "--workers", 0, "--out", finished_run)
    page, results = (finished_run / name for name in ("report.html", "results.json"))

    def times():
        return page.stat().st_mtime_ns, results.stat().st_mtime_ns

    before, drawn = times(), page.read_text()
    capsys.readouterr()
    call(*command)
    said = capsys.readouterr().out
    assert f"0 stages to do, {stages_of(finished_run)} found in the store" in said
    assert "Compute time of this run: 0 s" in said
    assert times() == before
    # What does not come from these results is written again.
    stored = json.loads(results.read_text())
    results.write_text(json.dumps(stored | {"tables": {}}))
    call(*command)
    assert json.loads(results.read_text())["tables"] == stored["tables"]
    assert page.stat().st_mtime_ns > before[0]
    page.unlink()
    call(*command)
    assert page.read_text().count("<table") == drawn.count("<table") > 0


def test_a_shared_store_spares_the_work(
    finished_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    call(*SMALL, "--workers", 0, "--out", tmp_path / "other", "--store",
         finished_run / "store")  # fmt: skip
    assert "Compute time of this run: 0 s" in capsys.readouterr().out
    assert (tmp_path / "other" / "models" / "student-D_R-seed0.safetensors").exists()


def test_a_folder_deleted_under_a_run_is_its_own_again(
    finished_run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, planned = tmp_path / "out", StageDisplay.planned

    def delete(display, *facts) -> None:
        shutil.rmtree(out, ignore_errors=True)
        planned(display, *facts)

    command = (*SMALL, "--workers", 0, "--out", out, "--store",
               finished_run / "store")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(StageDisplay, "planned", delete)
        call(*command)
    call(*command)
    said = capsys.readouterr().out
    assert f"0 stages to do, {stages_of(finished_run)} found in the store" in said


def test_damage_to_a_store_is_named_in_the_output(
    finished_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run / "store", tmp_path / "store")
    numbers = next((tmp_path / "store").glob("constructed-evaluated/*/numbers.json"))
    numbers.write_text(numbers.read_text().replace("clean", "cleam"))
    call(*SMALL, "--workers", 0, "--out", tmp_path / "out", "--store",
         tmp_path / "store")  # fmt: skip
    said = capsys.readouterr().out
    assert f"1 stages to do, {stages_of(finished_run) - 1} found in the store" in said
    assert "Its stored result is damaged ('numbers.json' was changed after" in said
    a, b = (json.loads((f / "results.json").read_text()) for f in (finished_run, tmp_path / "out"))
    assert a["tables"] == b["tables"]


def test_the_weights_of_a_run_need_nothing_else(
    finished_run, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json.loads((finished_run / "results.json").read_text())["tables"]["robust"]
    (clean,) = table["D_adv"]["clean"]
    capsys.readouterr()
    call("evaluate", finished_run / "models" / "robust-seed0.safetensors", "--threat", "l2:0.5",
         "--method", "pgd")  # fmt: skip
    said = capsys.readouterr().out
    assert "60 images" in said  # the run's own test part
    assert f"{clean:.2f}" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    call("--version")
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_python_dash_m_and_kill_9_in_mid_run(finished_run, tmp_path: Path) -> None:
    """A run killed at any moment ends, when repeated, with the numbers of an undisturbed one."""
    out = tmp_path / "a"
    command = [sys.executable, "-m", "notbugs", *SMALL, "--workers", "2",
               "--out", str(out)]  # fmt: skip
    killed_once(lambda: len(list(out.glob("store/*/*/meta.json"))) >= 4, command)
    assert not (out / "results.json").exists()
    made = len(list(out.glob("store/*/*/meta.json")))
    command[command.index("--workers") + 1] = "0"  # what workers began, one process can end
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    computed = map(int, re.findall(r"(\d+) stages to do", again.stdout))
    assert sum(computed) == stages_of(finished_run) + 1 - made
    a, b = (json.loads((folder / "results.json").read_text()) for folder in (out, finished_run))
    assert a["tables"] == b["tables"]
    assert a["claims"] == b["claims"]


@pytest.mark.slow
def test_an_evaluation_killed_in_the_middle_ends_with_the_same_verdict(
    trained, tmp_path: Path
) -> None:
    options = ["evaluate", str(trained), "--threat", "l2:0.5", "--method", "pgd", "--steps", "90",
               "--restarts", "2", "--count", "36", "--batch-size", "3"]  # fmt: skip
    path, cache = tmp_path / "resumed.json", tmp_path / "cache"
    command = [sys.executable, "-m", "notbugs", *options, "--json"]
    env = {**os.environ, "NOTBUGS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    call(*options, "--json", tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    command += [str(path)]
    killed_once(lambda: rows_seen(cache) >= 6, command, env)
    left = rows_seen(cache)
    assert 6 <= left < round(whole["clean_accuracy"] * 0.36)  # of 36
    assert not path.exists()
    again = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    assert "Resuming from where this evaluation was stopped." in again.stdout
    assert rows_seen(cache) == 0  # the state is gone at the end
    resumed = json.loads(path.read_text())
    assert 0 < whole["attacks"][0]["broken"] < 36
    for verdict in (whole, resumed):
        del verdict["seconds"], verdict["attacks"][0]["seconds"]
    assert resumed == whole


def rows_seen(cache):
    """Rows in the books of the only evaluation under way; 0 where there is none."""
    states = list(cache.glob("evaluations/*.json"))
    return len(json.loads(states[0].read_text())["seen"].get("0", ())) if states else 0
