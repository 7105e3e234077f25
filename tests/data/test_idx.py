"""MNIST and Fashion-MNIST files: where they lie, what they hold, how they break."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.data import load_source
from notbugs.data.sources import idx
from published import encoded

RNG = np.random.default_rng(0)
PIXELS = {"train": RNG.integers(0, 256, (7, 5, 6), np.uint8)}
PIXELS["t10k"] = RNG.integers(0, 256, (4, 5, 6), np.uint8)
LABELS = {"train": np.array([0, 9, 3, 3, 1, 2, 8], np.uint8)}
LABELS["t10k"] = np.array([5, 0, 9, 7], np.uint8)


def write(folder: Path, *, zipped: bool = True, dot: bool = False) -> dict[str, Path]:
    """The four files; their paths by "train-images", "train-labels", ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = dict[str, Path]()
    for part in ("train", "t10k"):
        for what, array in (("images", PIXELS[part]), ("labels", LABELS[part])):
            name = f"{part}-{what}{'.' if dot else '-'}idx{array.ndim}-ubyte"
            path = folder / (name + ".gz" * zipped)
            path.write_bytes(gzip.compress(encoded(array)) if zipped else encoded(array))
            paths[f"{part}-{what}"] = path
    return paths


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dot", [True, False])
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "."),
        ("mnist", "MNIST/raw"),
        ("mnist", "mnist"),
        ("fashion-mnist", "."),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
    ],
)
def test_every_place_and_spelling_is_found(
    name: str, folder: str, zipped: bool, dot: bool, tmp_path: Path
) -> None:
    write(tmp_path / folder, zipped=zipped, dot=dot)
    source = load_source(name, tmp_path, download=False)
    assert source.name == name
    for data, part in ((source.train, "train"), (source.test, "t10k")):
        assert data is not None
        assert data.images.dtype == torch.uint8
        assert np.array_equal(data.images[:, 0].numpy(), PIXELS[part])
        assert data.labels.tolist() == LABELS[part].tolist()
        assert data.classes == 10


def test_digests_of_the_files_are_recorded(tmp_path: Path) -> None:
    paths = write(tmp_path)
    path = paths["train-images"]
    facts = load_source("mnist", tmp_path, download=False).train.provenance
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["files"][path.name] == digest  # pyright: ignore
    assert facts["part"] == "train"
    assert "note" not in facts


def test_the_note_travels(tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw")
    (tmp_path / "MNIST/raw/PROVENANCE.txt").write_text("MNIST (other order): mixed")
    source = load_source("mnist", tmp_path, download=False)
    assert source.title == source.note == "MNIST (other order)"
    assert source.train.provenance["note"] == "MNIST (other order)"


def test_one_missing_file_is_a_missing_set(tmp_path: Path) -> None:
    write(tmp_path)["t10k-labels"].unlink()
    with pytest.raises(DataError, match=r"No mnist in .*t10k-labels-idx1-ubyte \(.gz\) into"):
        load_source("mnist", tmp_path, download=False)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)["train-images"]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz' is truncated or corrupt \("):
        load_source("mnist", tmp_path, download=False)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_gzip_is_named(content: bytes, tmp_path: Path) -> None:
    write(tmp_path)["t10k-images"].write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz' is (truncated|not an IDX)"):
        load_source("mnist", tmp_path, download=False)


def test_a_flipped_byte_in_a_gzip_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path)["train-images"]
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # in the checksum or the length at the end
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz' is truncated or corrupt"):
        load_source("mnist", tmp_path, download=False)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_noticed(change: int, tmp_path: Path) -> None:
    path = write(tmp_path, zipped=False)["train-images"]
    raw = path.read_bytes()
    path.write_bytes(raw[:change] if change < 0 else raw + b"\0")
    expected = rf"its header announces 210 bytes, {210 + change} follow"
    with pytest.raises(DataError, match=expected):
        load_source("mnist", tmp_path, download=False)


def test_images_where_labels_belong_are_noticed(tmp_path: Path) -> None:
    paths = write(tmp_path, zipped=False)
    paths["train-labels"].write_bytes(encoded(PIXELS["train"]))
    with pytest.raises(
        DataError, match="not an IDX file of labels: it begins with 00000803, not 00000801"
    ):
        load_source("mnist", tmp_path, download=False)


def test_an_empty_file_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, zipped=False)["train-images"].write_bytes(b"")
    with pytest.raises(DataError, match="not an IDX file of images: it begins with nothing"):
        load_source("mnist", tmp_path, download=False)


def test_a_set_of_no_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path, zipped=False)["train-images"].write_bytes(struct.pack(">4I", 0x803, 0, 5, 6))
    with pytest.raises(DataError, match="announces 0 bytes, 0 follow"):
        load_source("mnist", tmp_path, download=False)


def test_counts_must_agree(tmp_path: Path) -> None:
    paths = write(tmp_path, zipped=False)
    paths["train-labels"].write_bytes(encoded(LABELS["train"][:5]))
    with pytest.raises(DataError, match=r"do not belong together.*one class index for each image"):
        load_source("mnist", tmp_path, download=False)


def test_labels_must_be_digits(tmp_path: Path) -> None:
    paths = write(tmp_path, zipped=False)
    paths["t10k-labels"].write_bytes(encoded(np.array([5, 0, 10, 7], np.uint8)))
    with pytest.raises(DataError, match=r"must lie in 0\.\.9; got 10 in row 2"):
        load_source("mnist", tmp_path, download=False)


def test_the_other_set_under_the_same_file_names_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = hashlib.md5(LABELS["t10k"].tobytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(idx, "FASHION", replace(idx.FASHION, test_labels=known))
    write(tmp_path)
    with pytest.raises(DataError, match="belongs to fashion-mnist, but mnist was requested"):
        load_source("mnist", tmp_path, download=False)


def test_a_download_never_overwrites_a_file_of_ones_own(tmp_path: Path) -> None:
    paths = write(tmp_path / "MNIST/raw")
    paths["t10k-labels"].unlink()
    before = paths["train-images"].read_bytes()
    expected = r"train-images-idx3-ubyte\.gz' is not the publisher's, and .* lacks other files"
    with pytest.raises(DataError, match=expected):
        load_source("mnist", tmp_path, progress=False)
    assert paths["train-images"].read_bytes() == before


def test_an_interrupted_download_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = write(tmp_path / "publisher")
    sums = [
        hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in published.values()
    ]
    monkeypatch.setattr(idx, "MNIST", replace(idx.MNIST, checksums=sums))
    monkeypatch.setattr("notbugs.data.sources.load.MNIST", idx.MNIST)
    asked = list[str]()

    def fetch(urls: list[str], *, checksum: str, folder: Path, progress: bool) -> Path:
        name = urls[0].rsplit("/", 1)[-1]
        asked.append(f"{name} {checksum}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((tmp_path / "publisher" / name).read_bytes())
        return folder / name

    monkeypatch.setattr(idx, "fetch", fetch)
    folder = tmp_path / "MNIST/raw"
    fetch(["x/train-images-idx3-ubyte.gz"], checksum="", folder=folder, progress=False)
    asked.clear()
    source = load_source("mnist", tmp_path, progress=False)
    assert asked == [f"{file}.gz md5:{md5}" for file, md5 in zip(idx.FILES, sums, strict=True)]
    assert source.train.labels.tolist() == LABELS["train"].tolist()


def test_the_publisher_has_four_files_for_each_set() -> None:
    for kind in (idx.MNIST, idx.FASHION):
        assert len(set(kind.checksums)) == len(idx.FILES) == 4
        assert all(len(checksum) == 32 for checksum in kind.checksums)
        assert len(kind.class_names) == 10
        assert all(mirror.endswith("/") for mirror in kind.mirrors)
