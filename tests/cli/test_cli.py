"""The command line as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.cli import main

COMMANDS = ["reproduce", "train", "attack", "evaluate", "build", "data"]


def call(*arguments):
    main([str(a) for a in arguments])


def refused(capsys, *arguments):
    """What stderr says of a call that must fail in one line, with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        call(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("error:")
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete_and_has_examples(command, capsys):
    with pytest.raises(SystemExit) as caught:
        call(command, "--help")
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "usage: notbugs" in said
    if command != "data":
        assert f"notbugs {command}" in said.split("positional")[0].split("options ─")[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    call("train", "--out", folder, "--train-size", 500, "--epochs", 6)
    return folder / "model.safetensors"


def test_evaluate_writes_its_verdict(trained, tmp_path, capsys):
    path = tmp_path / "verdict.json"
    call("evaluate", trained, "--threat", "l2:0.5", "--count", 100, "--json", path)
    said = capsys.readouterr().out
    verdict = json.loads(path.read_text())
    assert verdict["threat"] == "l2:0.5"
    assert verdict["n"] == 100
    assert f"{verdict['robust']:.2f}" in said
    assert verdict["robust"] <= verdict["clean"]
    assert verdict["clean"] > 60


def test_attack_saves_and_checks_after_rounding(trained, tmp_path, capsys):
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


def test_build_show_and_export(trained, tmp_path, capsys):
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
    assert "representation error" in capsys.readouterr().out
    call("data", "show", det)
    assert "D_det" in capsys.readouterr().out
    call("data", "export", det, "--to", tmp_path / "det.npz")
    assert len(np.load(tmp_path / "det.npz")["labels"]) == 60
    call("data", "list")
    assert "fashion-mnist" in capsys.readouterr().out


def test_a_model_of_ones_own(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    spec = f"{tmp_path / 'net.py'}:make"
    out = tmp_path / "run"
    call(
        "reproduce",
        "--preset",
        "smoke",
        "--workers",
        0,
        "--model",
        spec,
        "--embedding",
        2,
        "--out",
        out,
    )
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
    )
    assert "60 images" in capsys.readouterr().out  # the run's own test split, not another one
    said = refused(capsys, "evaluate", weights, "--threat", "l2:1", "--model", spec, "--embedding",
                   "nope", "--data", "digits")  # fmt: skip
    assert "nope" in said


def pictures(folder, sizes):
    for label, size in sizes.items():
        (folder / label).mkdir(parents=True)
        if size:
            Image.new("L", size).save(folder / label / "0.png")
    return f"folder:{folder}"


def test_bad_input_is_one_clear_line(trained, tmp_path, capsys):
    torch.save({"w": torch.zeros(2)}, tmp_path / "model.pt")
    (tmp_path / "short.safetensors").write_bytes(trained.read_bytes()[:300])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    empty = pictures(tmp_path / "empty", {"a": (4, 4), "b": None})
    mixed = pictures(tmp_path / "mixed", {"a": (4, 4), "b": (5, 4)})
    single = pictures(tmp_path / "single", {"a": (4, 4)})
    out = ("--out", tmp_path / "new")
    cases = [
        (("evaluate", trained, "--threat", "linf:8"), "Write linf:8/255"),
        (("evaluate", trained, "--threat", "l2:0"), "above 0"),
        (("evaluate", trained, "--threat", "l2;1"), "norm:eps"),
        (("evaluate", tmp_path / "model.pt", "--threat", "l2:1"), "pickle"),
        (("evaluate", tmp_path / "short.safetensors", "--threat", "l2:1"), "truncated"),
        (("evaluate", tmp_path / "none.safetensors", "--threat", "l2:1"), "none.safetensors"),
        (("evaluate", trained, "--threat", "l2:1", "--data", "planted"), "shape"),
        (("attack", trained, "--threat", "l2:1", "--method", "pdg"), "Did you mean 'pgd'"),
        (("attack", trained, "--threat", "l2:1", "--target", 10), "lie in 0..9"),
        (("build", "robst", trained, *out), "Did you mean 'robust'"),
        (("build", "det", trained, *out), "--threat"),
        (("train", "--recipe", "pdg", *out), "Did you mean 'pgd'"),
        (("train", "--architecture", "resnet19", *out), "Did you mean 'resnet18'"),
        (("train", "--threat", "l2:1", *out), "--recipe pgd"),
        (("train", "--train-size", 40, *out), "Fewer images than a batch"),
        (("reproduce", "ilyas2018", *out), "Did you mean 'ilyas2019'"),
        (("reproduce", "--data", "digts", *out), "Did you mean 'digits'"),
        (("reproduce", "--preset", "labtop", *out), "Did you mean 'laptop'"),
        (("reproduce", "--seeds", 0, *out), "`seeds` must be at least 1"),
        (("reproduce", "--eps", "-1", *out), "above 0"),
        (("reproduce", "--out", tmp_path / "mine"), "not a run of notbugs"),
        (("reproduce", "--out", tmp_path / "file"), "Cannot use"),
        (("reproduce", "--data", empty, *out, "--preset", "smoke"), "empty"),
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


def test_a_folder_holds_one_run(tmp_path, capsys):
    out = tmp_path / "run"
    call("reproduce", "--preset", "smoke", "--workers", 0, "--out", out)
    said = refused(capsys, "reproduce", "--data", "planted", "--preset", "smoke", "--out", out)
    assert "holds another run" in said
    assert "ilyas2019" in said


def test_python_dash_m_and_kill_9_in_mid_run(tmp_path):
    """A run killed at any moment ends, when repeated, with the numbers of an undisturbed one."""

    def command(out):
        return [sys.executable, "-m", "notbugs", "reproduce", "--preset", "smoke", "--workers", "2",
                "--out", str(out)]  # fmt: skip

    victim = subprocess.Popen(
        command(tmp_path / "a"), stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "a").glob("store/*/*/meta.json"))) < 4:
        assert time.monotonic() < deadline
        assert victim.poll() is None
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "a" / "results.json").exists()
    for out in ("a", "b"):
        subprocess.run(command(tmp_path / out), check=True, stdout=subprocess.DEVNULL, timeout=240)
    a, b = (json.loads((tmp_path / out / "results.json").read_text()) for out in ("a", "b"))
    assert a["tables"] == b["tables"]
    assert a["claims"] == b["claims"]
