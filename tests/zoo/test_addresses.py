"""Models by name, by path and on a hub, from Python and in commands."""

import json
from pathlib import Path

import pytest
import torch

import notbugs as nb
from notbugs.cli import main
from notbugs.cli.features import FeaturesCommand
from notbugs.core.errors import DataError

X = torch.rand(3, 1, 8, 8, generator=torch.manual_seed(0))


def test_one_loader_for_names_and_paths(mine: nb.zoo.Entry, weights: Path) -> None:
    wanted = nb.models.load(weights)[0](X)
    for address in ("mine", "zoo:mine", weights, str(weights), mine.folder, str(mine.weights)):
        model = nb.load_model(address)
        assert isinstance(model, nb.Classifier)
        assert torch.equal(model(X), wanted)
        assert not model.training


def test_a_path_comes_before_a_name(
    mine: nb.zoo.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nb.save_model(nb.build("mlp", shape=(1, 8, 8), classes=10, seed=0), "mine/model.safetensors")
    assert nb.load_model("mine").architecture == "mlp"
    assert nb.load_model("zoo:mine").architecture == "linear"


def test_unknown_names_are_refused_with_the_nearest(mine: nb.zoo.Entry) -> None:
    for address in ("mime", "zoo:mime"):
        with pytest.raises(ValueError, match=r"Unknown model.*'mime'\. Did you mean 'mine'\?"):
            nb.load_model(address)
    for address in ("mine.safetensors", "there/mine"):
        with pytest.raises(DataError, match="No weights file"):
            nb.load_model(address)
    with pytest.raises(ValueError, match="`name` must be up to 100 letters"):
        nb.load_model("zoo:../mine")


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    nb.save_model(nb.wrap(net, X), tmp_path / "own.safetensors")
    assert torch.equal(nb.load_model(tmp_path / "own.safetensors", net)(X), net(X))
    with pytest.raises(DataError, match=r"nb\.load_model\(path, module\)"):
        nb.load_model(tmp_path / "own.safetensors")


def test_every_command_takes_a_name(
    mine: nb.zoo.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    some = "--threat l2:2 --count 20"
    for command in (
        f"evaluate zoo:mine {some} --method fgsm --json e.json",
        f"compare zoo:mine zoo:digits-linear {some} --method fgsm --no-curves --data digits",
        f"build rand zoo:mine {some} --steps 1 --out d.safetensors",
        "look zoo:mine --invert --steps 1 --image 0 --out l.png",
    ):
        main(command.split())
    verdict = json.loads(Path("e.json").read_text())
    assert (verdict["weights_sha256"], verdict["n"]) == (mine.card.sha256, 20)
    compared = Path("comparison", "comparison.md").read_text()
    assert "mine" in compared
    assert "digits-linear" in compared
    assert FeaturesCommand("zoo:mine").of_model


def test_no_command_overwrites_a_model_of_the_zoo(
    mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    before = mine.weights.read_bytes()
    with pytest.raises(SystemExit):
        main(["build", "rand", "zoo:mine", "--threat", "l2:1", "--out", str(mine.weights)])
    assert "`--out` must differ from the files that are read" in capsys.readouterr().err
    assert mine.weights.read_bytes() == before
