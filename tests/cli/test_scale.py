"""Commands on sets that lie in files, as large ones do, give what they give in memory."""

import json
from pathlib import Path

import pytest
import torch

from notbugs.cli import main
from notbugs.core import mapped
from notbugs.data import load, load_source, save

PGD = ("--threat", "l2:0.5", "--method", "pgd")
JOBS = {
    "evaluate": (*PGD, "--json", "OUT"),
    "attack": (*PGD, "--steps", "5", "--save", "OUT", "--png", "FOLDER"),
    "build det": ("--threat", "l2:0.5", "--steps", "3", "--out", "OUT"),
    "build nonrobust": ("--steps", "3", "--out", "OUT"),
}


def run(job: str, rows: Path, folder: Path) -> Path:
    folder.mkdir()
    out = folder / ("out.json" if job == "evaluate" else "out.safetensors")
    places = {"OUT": str(out), "FOLDER": str(folder / "png")}
    options = [places.get(word, word) for word in JOBS[job]]
    main([*job.split(), "zoo:digits-cnn", "--data", str(rows), *options])
    return out


@pytest.mark.parametrize("job", JOBS)
def test_a_set_in_a_file_gives_the_same(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.safetensors"
    save(load_source("digits").train.select(range(60)), rows)
    usual = run(job, rows, tmp_path / "usual")
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    monkeypatch.setattr(mapped, "CHUNK", 300)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    in_file = run(job, rows, tmp_path / "file")
    if job == "evaluate":
        both = [json.loads(path.read_text()) for path in (usual, in_file)]
        assert both[0]["robust_accuracy"] == both[1]["robust_accuracy"]
        return
    made, other = load(usual), load(in_file)
    assert torch.equal(made.images, other.images)
    assert {n: c.tolist() for n, c in made.columns.items()} == {
        n: c.tolist() for n, c in other.columns.items()
    }
    pictures = [sorted((tmp_path / n / "png").rglob("*.png")) for n in ("usual", "file")]
    assert len(pictures[0]) == (60 if job == "attack" else 0)
    assert [p.read_bytes() for p in pictures[0]] == [p.read_bytes() for p in pictures[1]]


@pytest.mark.parametrize("command", ["attack", "evaluate"])
def test_labels_in_another_order_are_noticed(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, data = tmp_path / "rows.safetensors", load_source("digits").train.select(range(60))
    for shift, count in ((0, 0), (1, 1)):
        save(data.with_labels((data.labels + shift) % 10), rows)
        options = ["--data", str(rows), "--threat", "l2:0.5", "--method", "fgsm"]
        main([command, "zoo:digits-cnn", *options])
        said = capsys.readouterr().out
        assert said.count("of 60 images are right as they are, fewer than by guessing") == count
