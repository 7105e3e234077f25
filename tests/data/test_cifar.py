"""CIFAR's binary records: layout, class names, variants, and how they break."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.data import load_source
from notbugs.data.sources import cifar
from notbugs.data.sources.cifar import CIFAR10, CIFAR100, CifarSet

KINDS = [CIFAR10, CIFAR100]
PER_FILE = 3


def records(kind: CifarSet, labels: Sequence[int], seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(labels), 3072), np.uint8)
    fine = np.array(labels, np.uint8)[:, None]
    coarse = fine // 5
    head = fine if kind.label_bytes == 1 else np.concatenate([coarse, fine], 1)
    return np.concatenate([head, pixels], 1).tobytes()


def contents(kind: CifarSet) -> dict[str, bytes]:
    """A small set's files by name."""
    files = {
        file: records(kind, [i, 9 - i, kind.classes - 1], seed=i)
        for i, file in enumerate([*kind.train, kind.test])
    }
    names = kind.class_names or [f"class {i}" for i in range(kind.classes)]
    return files | {kind.names: "\n".join([*names, ""]).encode()}


def write(kind: CifarSet, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(kind).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("place", range(3))
def test_records_are_read_from_every_place(kind: CifarSet, place: int, tmp_path: Path) -> None:
    write(kind, tmp_path / kind.folders[place])
    source = load_source(kind.name, tmp_path, download=False)
    assert source.test is not None
    assert len(source.train) == PER_FILE * len(kind.train)
    assert len(source.test) == PER_FILE
    assert source.train.shape == (3, 32, 32)
    assert source.train.images.dtype == torch.uint8
    assert source.train.classes == kind.classes
    assert source.train.labels[:3].tolist() == [0, 9, kind.classes - 1]
    assert source.test.labels[0] == len(kind.train)
    assert source.title == {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[kind.name]
    assert list(source.train.provenance["files"]) == list(kind.train)  # pyright: ignore


def test_planes_are_red_green_blue_row_by_row(tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0, 0, 5], pixels[1, 31, 0], pixels[2, 7, 7] = 10, 20, 30
    (tmp_path / "test_batch.bin").write_bytes(b"\x04" + pixels.tobytes())
    source = load_source("cifar10", tmp_path, download=False)
    assert source.test is not None
    assert np.array_equal(source.test.images[0].numpy(), pixels)
    assert source.test.labels.tolist() == [4]


def test_cifar100_keeps_both_labels(tmp_path: Path) -> None:
    write(CIFAR100, tmp_path)
    train = load_source("cifar100", tmp_path, download=False).train
    assert train.labels.tolist() == [0, 9, 99]
    assert train.columns["coarse_labels"].tolist() == [0, 1, 19]
    assert train.class_names[42] == "class 42"


def test_cifar10_has_no_coarse_labels_and_knows_its_names(tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    (tmp_path / CIFAR10.names).unlink()
    train = load_source("cifar10", tmp_path, download=False).train
    assert dict(train.columns) == {}
    assert train.class_names[3] == "cat"
    assert train.class_names[9] == "truck"


def test_a_variant_says_so_in_every_title(tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    (tmp_path / "PROVENANCE.txt").write_text("CIFAR-10 (JPEG): re-encoded, quality 75\n")
    source = load_source("cifar10", tmp_path, download=False)
    assert source.title == "CIFAR-10 (JPEG)"
    assert source.test is not None
    assert source.test.provenance["note"] == "CIFAR-10 (JPEG)"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_truncated_file_is_named(kind: CifarSet, tmp_path: Path) -> None:
    write(kind, tmp_path)
    path = tmp_path / kind.train[-1]
    path.write_bytes(path.read_bytes()[:-1])
    size = 3072 + kind.label_bytes
    expected = f"{kind.train[-1]}' is truncated or corrupt: .* not a whole number of {size}-byte"
    with pytest.raises(DataError, match=expected):
        load_source(kind.name, tmp_path, download=False)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"test_batch.bin' is truncated or corrupt: 0 bytes"):
        load_source("cifar10", tmp_path, download=False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_label_out_of_range_is_refused(kind: CifarSet, tmp_path: Path) -> None:
    write(kind, tmp_path)
    (tmp_path / kind.test).write_bytes(records(kind, [0, kind.classes]))
    expected = rf"it has the label {kind.classes}, where {kind.name} has 0\.\.{kind.classes - 1}"
    with pytest.raises(DataError, match=expected):
        load_source(kind.name, tmp_path, download=False)


def test_the_number_of_names_must_be_right(tmp_path: Path) -> None:
    write(CIFAR100, tmp_path)
    (tmp_path / CIFAR100.names).write_text("apple\npear\n")
    with pytest.raises(DataError, match=r"fine_label_names.txt' names 2 classes, not 100"):
        load_source("cifar100", tmp_path, download=False)


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    (tmp_path / CIFAR10.names).write_text("cat\n" * 10)
    with pytest.raises(DataError, match="`class_names` must be all different"):
        load_source("cifar10", tmp_path, download=False)


def test_the_pickled_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="The Python version is pickled and is not read"):
        load_source("cifar10", tmp_path, download=False)


def archive(kind: CifarSet, folder: Path) -> Path:
    path = folder / f"{kind.name}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents(kind).items():
            info = tarfile.TarInfo(f"{kind.top}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_download_is_unpacked_and_found_again(
    kind: CifarSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = archive(kind, tmp_path)
    monkeypatch.setattr(cifar, "fetch", lambda *_, **__: fetched)
    data = tmp_path / "data"
    source = load_source(kind.name, data, progress=False)
    assert len(source.train) == PER_FILE * len(kind.train)
    assert (data / kind.top / kind.test).is_file()
    again = load_source(kind.name, data, download=False)
    assert again.train.digest == source.train.digest


def test_a_variant_with_a_file_missing_is_not_filled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = archive(CIFAR10, tmp_path)
    monkeypatch.setattr(cifar, "fetch", lambda *_, **__: fetched)
    folder = tmp_path / CIFAR10.top
    write(CIFAR10, folder)
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"is incomplete: it lacks data_batch_2\.bin\. Put that"):
        load_source("cifar10", tmp_path, progress=False)
    assert not (folder / "data_batch_2.bin").exists()
