"""`notbugs convert`."""

import json
from pathlib import Path

import pytest
import torch

from notbugs.cli import main
from notbugs.models import load


def call(*arguments) -> None:
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def checkpoint(trained_file, tmp_path_factory) -> Path:
    """As another library would have saved it, with its normalisation inside."""
    model, _ = load(trained_file)
    state = {
        f"module.{k.replace('trunk', 'features')}": v for k, v in model.body.state_dict().items()
    }
    state["module.norm.mean"], state["module.norm.std"] = model.mean, model.std
    path = tmp_path_factory.mktemp("theirs") / "ckpt.pt"
    torch.save({"net": state, "acc": 97.0, "epoch": 9}, path)
    return path


def test_a_checkpoint_becomes_weights_for_every_command(
    checkpoint, trained_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, told = tmp_path / "theirs.safetensors", tmp_path / "verdict.json"
    call("convert", checkpoint, "--architecture", "cnn", "--data", "digits", "--out", out)
    said = " ".join(capsys.readouterr().out.split())
    assert "Tensors matched by order and shape" in said
    assert "near chance" not in said
    first, second = load(trained_file)[0], load(out)[0]
    x = torch.rand(4, 1, 8, 8)
    assert torch.allclose(first(x), second(x), atol=1e-5)
    call("evaluate", out, "--threat", "l2:0.5", "--method", "fgsm", "--count", 20, "--json", told)
    assert json.loads(told.read_text())["clean_accuracy"] > 60


def test_a_normalisation_can_be_given(
    checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    call("convert", checkpoint, "--architecture", "cnn", "--data", "digits", "--out", out,
         "--mean", "0.5", "--std", "0.25")  # fmt: skip
    assert "mean 0.5, std 0.25" in " ".join(capsys.readouterr().out.split())
    model = load(out)[0]
    assert (float(model.mean), float(model.std)) == (0.5, 0.25)


def test_ones_own_module_needs_no_embedding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    spec, theirs = f"{tmp_path / 'net.py'}:make", tmp_path / "theirs.pt"
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    )
    torch.save(net.state_dict(), theirs)
    # The file itself, with a module and a dataset:
    call("evaluate", theirs, "--model", spec, "--data", "digits", "--threat", "l2:0.1", "--method",
         "fgsm", "--count", 9)  # fmt: skip
    out = tmp_path / "mine.safetensors"
    call("convert", theirs, "--model", spec, "--data", "digits", "--out", out)
    said = " ".join(capsys.readouterr().out.split())
    assert "The checkpoint holds no mean and std" in said
    assert "That is near chance: check --mean and --std" in said  # it was never trained_file
    call("evaluate", out, "--model", spec, "--threat", "l2:0.1", "--method", "fgsm", "--count", 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "`--architecture` must be given, or --model"),
        (("--architecture", "cnn", "--model", "net.py:make"), "`--architecture` must be given, or"),
        (("--architecture", "cnnn"), "Did you mean 'cnn'"),
        (("--architecture", "cnn", "--options", "width"), "be written name=value"),
        (("--architecture", "cnn", "--options", "widht=3"), "Did you mean 'width'"),
        (("--architecture", "cnn", "--options", "width=8"), "does not fit the model"),
        (("--architecture", "cnn", "--count", "0"), "`--count` must be at least 1"),
        (("--architecture", "cnn", "--mean", "1", "2"), "mean"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    checkpoint, tmp_path: Path, arguments, words, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call("convert", checkpoint, "--data", "digits", "--out", tmp_path / "a.safetensors",
             *arguments)  # fmt: skip
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
