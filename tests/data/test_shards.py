"""Pictures in tar archives of WebDataset, and pictures brought to one size."""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.cli import main
from notbugs.core.errors import DataError, DataWarning
from notbugs.data import load, load_source
from notbugs.data.sources import shards
from notbugs.data.sources.folder import load_folder
from notbugs.data.sources.shards import load_shards


def png(seed: int, height: int = 6, width: int = 4) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shard(path: Path, first: int, count: int = 3) -> Path:
    files = dict[str, bytes]()
    for i in range(first, first + count):
        files |= {f"{i:03}.png": png(i), f"{i:03}.cls": f"{i % 4}\n".encode(), f"{i:03}.json": b""}
    return archive(path, files)


def test_samples_come_in_their_order_over_archives(tmp_path: Path) -> None:
    paths = [shard(tmp_path / "0.tar", 0), shard(tmp_path / "1.tar", 3)]
    data = load_shards(paths)
    assert data.labels.tolist() == [0, 1, 2, 3, 0, 1]
    assert data.class_names == ("0", "1", "2", "3")
    for i in (0, 4):
        expected = np.asarray(Image.open(io.BytesIO(png(i)))).transpose(2, 0, 1)
        assert np.array_equal(data.images[i].numpy(), expected)
    assert load_shards(paths, class_names=["a", "b", "c", "d"]).class_names[3] == "d"


def test_files_without_a_class_or_a_picture_are_passed_over(tmp_path: Path) -> None:
    files = {"0.png": png(0), "0.cls": b"1", "1.png": png(1), "2.cls": b"1", "a/3.cls": b"0",
             "a/3.PNG": png(3), "../../etc/4.png": png(4), "../../etc/4.cls": b"0"}  # fmt: skip
    data = load_shards([archive(tmp_path / "x.tar", files)])
    assert data.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.txt": b"hello"}, r"No picture with its class \(.cls\)"),
        ({"0.png": png(0), "0.cls": b"cat"}, r"The class of '.*x.tar/0' is 'cat'; it must be"),
        ({"0.png": png(0), "0.cls": b"0000000001000000000"}, "must be a number below 100,000"),
        ({"0.png": png(0)[:40], "0.cls": b"0"}, r"'x.tar/0.png' is not a sound image"),
        ({"0.png": png(0), "0.cls": b"0", "1.png": png(1, 5), "1.cls": b"1"}, "have mixed sizes"),
    ],
)
def test_broken_samples_are_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_shards([archive(tmp_path / "x.tar", files)])


def test_broken_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(shard(tmp_path / "x.tar", 0).read_bytes()[:700])
    for path in (cut, tmp_path / "missing.tar"):
        with pytest.raises(DataError, match=rf"'.*{path.name}' is not a sound .tar archive"):
            load_shards([path])
    monkeypatch.setattr(shards, "MOST_BYTES", 50)
    with pytest.raises(DataError, match=r"x.tar/000.png' has .* bytes; at most 50 are read"):
        load_shards([tmp_path / "x.tar"])


def photos(folder: Path) -> Path:
    """Pictures of several sizes, black but for a white middle square of 7/8 of the shorter side."""
    for i, (height, width) in enumerate([(64, 96), (80, 64), (128, 128)]):
        pixels = np.zeros((height, width, 3), np.uint8)
        half = round(min(height, width) * 7 / 16)
        pixels[height // 2 - half :, width // 2 - half :][: 2 * half, : 2 * half] = 255
        for name in ("cat", "dog"):
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def test_pictures_of_all_sizes_become_their_middle_square(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    with pytest.raises(DataError, match=r"mixed sizes: .* notbugs data import, with --side"):
        load_source(f"folder:{folder}")
    data = load_folder(folder, side=32).train
    assert data.shape == (3, 32, 32)
    assert int(data.images.min()) > 200  # black is 1/16 outside; the filter sees a little of it


def test_the_command_makes_a_set_of_each_kind_of_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "set.safetensors"
    main(["data", "import", str(photos(tmp_path / "photos")), "--side", "32", "--to", str(made)])
    assert "6 images of 2 classes" in capsys.readouterr().out
    assert load(made).class_names == ("cat", "dog")
    paths = [str(shard(tmp_path / f"{i}.tar", 3 * i)) for i in range(2)]
    tars = tmp_path / "tars.safetensors"
    main(["data", "import", *paths, "--names", "a", "b", "c", "d", "--to", str(tars)])
    assert torch.equal(load(tars).images, load_shards([Path(path) for path in paths]).images)
    assert load(tars).class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PHOTOS", "--names", "a", "b"], "`--names` must be left out for a folder"),
        (["x.npz", "--side", "8"], "`--side` must be left out for an .npz file"),
        (["x.npz", "y.npz"], "must be .tar files, one .npz file or one folder; got x.npz, y.npz"),
        (["PHOTOS", "--side", "0"], "`side` must be at least 1"),
        (["PARTS"], r"must be a part of the set.*'.*parts/train'"),
    ],
)
def test_what_cannot_be_imported_is_said(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "parts"
    for name in ("train", "test"):
        photos(parts / name)
    places = {"PHOTOS": str(photos(tmp_path / "photos")), "PARTS": str(parts)}
    words = [places.get(word, word) for word in arguments]
    words += ["--side", "16"] if "PARTS" in arguments else []
    with pytest.raises(SystemExit):
        main(["data", "import", *words, "--to", str(tmp_path / "out.safetensors")])
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "out.safetensors").exists()


def test_what_was_done_to_pictures_is_said(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("CMYK", (4, 6)).save(file, format="JPEG")
    files = {"0.jpg": file.getvalue(), "0.cls": b"0", "1.png": png(1), "1.cls": b"1"}
    with pytest.warns(DataWarning, match=r"\(2 read\), 1 was converted from CMYK to RGB"):
        load_shards([archive(tmp_path / "x.tar", files)])


def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    files = {"caf\udce9.png": png(0), "caf\udce9.cls": b"1"}
    assert load_shards([archive(tmp_path / "x.tar", files)]).labels.tolist() == [1]
