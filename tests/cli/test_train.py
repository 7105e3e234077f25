"""`notbugs train`: every recipe by name, and what it leaves beside the weights."""

import json
import sys

import pytest

from notbugs.cli import main
from notbugs.models import read_metadata
from notbugs.training import recipe_from_json

SMALL = ("--train-size", "300", "--epochs", "3")


def run(*words):
    main([str(word) for word in words])


def test_metrics_picture_and_recipe_lie_beside_the_weights(tmp_path, capsys):
    out = tmp_path / "m"
    run("train", "--recipe", "trades", "--threat", "linf:0.1", "--out", out, *SMALL)
    assert "Recipe trades at linf:0.1, 3 epochs: about" in capsys.readouterr().out
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
    assert type(recipe.lesson).__name__ == "Trades"
    assert recipe.adversary.threat == "linf:0.1"
    assert facts["history"] == rows


def test_tensorboard_is_asked_for_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SystemExit):
        run("train", "--tensorboard", "--out", tmp_path / "m", *SMALL)
    assert not (tmp_path / "m" / "metrics.jsonl").exists()


def test_a_file_in_place_of_the_folder_is_refused_at_once(tmp_path, capsys):
    path = tmp_path / "taken"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        run("train", "--out", path, *SMALL)
    assert "`--out` must be a folder, or not there yet" in capsys.readouterr().err
    assert path.read_text() == "mine"
