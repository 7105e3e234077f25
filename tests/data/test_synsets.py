"""Folders named by WordNet ids give the labels of a model that knows more classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.core.errors import DataError
from notbugs.data import load_synset_folder, read_synsets

IDS = ("n01440764", "n01443537", "n01484850", "n02123045")


def made(folder: Path, names: tuple[str, ...] = (IDS[3], IDS[1])) -> Path:
    """Two pictures a class, of unequal sizes: the class's brightness, in a frame of white."""
    for i, name in enumerate(sorted(names)):
        (folder / name).mkdir(parents=True)
        for j, (height, width) in enumerate(((40, 64), (64, 32))):
            pixels = np.full((height, width, 3), 255, np.uint8)
            pixels[2:-2, 2:-2] = 60 * (i + 1)
            Image.fromarray(pixels).save(folder / name / f"{j}.png")
    return folder


def test_labels_are_the_models_and_pictures_have_one_size(tmp_path: Path) -> None:
    data = load_synset_folder(made(tmp_path / "imagenet-a"), IDS, side=28)
    assert data.labels.tolist() == [1, 1, 3, 3]
    assert data.shape == (3, 28, 28)
    assert data.class_names == IDS
    assert data.name == "imagenet-a"
    middle = data.images[:, :, 8:20, 8:20].float()
    for row, value in zip(middle, (60, 60, 120, 120), strict=True):
        assert float((row - value).abs().max()) <= 1
    # The longer side is cut: its frame is gone.
    assert int(data.images[0, 0, 14, 0]) == 60


def test_outliers_are_numbered_by_name(tmp_path: Path) -> None:
    folder = made(tmp_path / "imagenet-o", ("n09999999", "n00000001"))
    data = load_synset_folder(folder, side=16)
    assert data.class_names == ("n00000001", "n09999999")
    assert data.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"'n00000001', which is none of the model's 4 classes \(2"):
        load_synset_folder(folder, IDS)


def test_ids_are_read_in_every_format(tmp_path: Path) -> None:
    named = {str(i): [name, f"animal {i}"] for i, name in enumerate(IDS)}
    files = {
        "index.json": json.dumps(dict(reversed(named.items()))),
        "list.json": json.dumps(list(IDS)),
        "synsets.txt": "\n".join(IDS) + "\n",
        "mapping.txt": "".join(f"{name} an animal, a beast\n" for name in IDS),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert read_synsets(tmp_path / name) == IDS
    assert read_synsets(made(tmp_path / "val", IDS)) == IDS


def test_other_files_are_refused(tmp_path: Path) -> None:
    cases = {
        "names.txt": ("tench\ngoldfish\n", "holds 'tench', no WordNet id"),
        "twice.txt": (f"{IDS[0]}\n{IDS[0]}\n", f"lists '{IDS[0]}' twice"),
        "one.json": (json.dumps([IDS[0]]), "lists fewer than two ids"),
        "holes.json": (json.dumps({"0": IDS[0], "2": IDS[1]}), "are not numbered 0, 1, 2"),
        "broken.json": ("{", "is not sound JSON"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            read_synsets(tmp_path / name)
    with pytest.raises(DataError, match="Cannot read"):
        read_synsets(tmp_path / "none.txt")
    with pytest.raises(DataError, match="No folder"):
        load_synset_folder(tmp_path / "none", IDS)
    (tmp_path / "bad" / IDS[0]).mkdir(parents=True)
    (tmp_path / "bad" / IDS[1]).mkdir()
    for name in IDS[:2]:
        (tmp_path / "bad" / name / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="is not a sound image"):
        load_synset_folder(tmp_path / "bad", IDS)


def test_equal_pictures_have_equal_pixels_whatever_else_is_there(tmp_path: Path) -> None:
    both = load_synset_folder(made(tmp_path / "a"), IDS, side=28)
    (tmp_path / "a" / IDS[1] / "1.png").unlink()
    fewer = load_synset_folder(tmp_path / "a", IDS, side=28)
    assert torch.equal(fewer.images, both.images[[0, 2, 3]])
