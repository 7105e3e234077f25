"""`notbugs compare`."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from notbugs.cli import main
from notbugs.models import load, save
from notbugs.models.weights import RESERVED

QUICK = ("--threat", "l2:0.5", "linf:0.05", "--method", "pgd-3", "fgsm", "--count", "30")


def call(*arguments) -> None:
    main([str(a) for a in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        call("compare", *arguments)
    assert caught.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def other(trained_file, tmp_path_factory) -> Path:
    """Another model of the same images."""
    model, facts = load(trained_file)
    for p in model.parameters():
        p.data *= 0.8
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    facts = {k: v for k, v in facts.items() if k not in RESERVED}
    save(model, path, metadata=facts)
    return path


def test_two_models_beside_each_other(
    trained_file, other, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    call("compare", trained_file, other, *QUICK, "--out", out)
    said = capsys.readouterr().out
    names = {f"comparison.{suffix}" for suffix in ("md", "csv", "tex", "json", "png")}
    assert {p.name for p in out.iterdir()} == names | {"states", "notbugs-run.json"}
    rows = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert {row["model"] for row in rows} == {trained_file.parent.name, "other"}
    assert "Differences in points" in said
    assert "split otherwise" not in said
    told = json.loads((out / "comparison.json").read_text())
    assert len(told["differences"]) == 4
    assert len(told["curves"]) == 4
    with Image.open(out / "comparison.png") as picture:
        assert picture.width > 1.5 * picture.height > 600
    before = {p: p.stat().st_mtime_ns for p in (out / "states").iterdir()}
    call("compare", trained_file, other, *QUICK, "--out", out)
    assert {p: p.stat().st_mtime_ns for p in (out / "states").iterdir()} == before
    assert list(csv.DictReader((out / "comparison.csv").read_text().splitlines())) == rows


def test_what_cannot_be_compared_is_refused_before_the_work(
    trained_file, other, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("notbugs.cli.compare.compare", None)  # never reached
    model, facts = load(other)
    facts = {k: v for k, v in facts.items() if k not in RESERVED}
    save(model, tmp_path / "mnist.safetensors", metadata={**facts, "dataset": "mnist"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    for arguments, words in (
        ((trained_file, trained_file, *QUICK), "name each model once"),
        ((trained_file, tmp_path / "mnist.safetensors", *QUICK), "`--data` must name the images"),
        ((trained_file, tmp_path / "no.safetensors", *QUICK), "No weights file"),
        ((trained_file, other, *QUICK, "--out", tmp_path / "full"), "is not empty"),
        ((trained_file, other, *QUICK, "--fast", "float64"), "float32"),
        ((trained_file, other, *QUICK, "--method", "pdg"), "Did you mean 'pgd'"),
        ((trained_file, other, *QUICK, "--threat", "l2"), "norm:eps"),
    ):
        assert words in refused(capsys, *arguments), arguments
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "mnist.safetensors"]


def test_another_split_is_said(
    trained_file, other, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, facts = load(other)
    split = {**facts["split"], "seed": 1}
    facts = {k: v for k, v in facts.items() if k not in RESERVED}
    save(model, tmp_path / "split.safetensors", metadata={**facts, "split": split})
    call("compare", trained_file, tmp_path / "split.safetensors", "--threat", "l2:0.5", "--method",
         "fgsm", "--count", 9, "--no-curves", "--out", tmp_path / "out")  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    assert "'split' was split otherwise than" in said
    assert not (tmp_path / "out" / "comparison.png").exists()
