import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.data import load_source
from notbugs.data.sources.cifar import CIFAR10, load_cifar
from notbugs.data.sources.idx import FILES, MNIST, load_idx

RANDOM = np.random.default_rng(0)
TRAIN, TEST = (
    (RANDOM.integers(0, 256, (n, 6, 5), np.uint8), (np.arange(n) % 10).astype(np.uint8))
    for n in (20, 10)
)


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def idx_files(zipped=True):
    content = dict(zip(FILES, map(idx, (*TRAIN, *TEST)), strict=True))
    return {f"{k}.gz": gzip.compress(v) for k, v in content.items()} if zipped else content


def fill(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def local(name, data_dir):
    return load_source(name, data_dir, download=False)


def test_digits_are_those_of_the_package_with_or_without_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.datasets import load_digits

    bunch, digest = load_digits(), load_source("digits").train.digest
    images = torch.as_tensor(bunch.images / 16, dtype=torch.float32)
    assert torch.equal(load_source("digits").train.pixels()[:, 0], images)
    monkeypatch.setattr("notbugs.data.sources.digits.find_spec", lambda name: None)
    assert load_source("digits").train.digest == digest


def test_digits() -> None:
    source = load_source("digits")
    assert (len(source.train), source.train.shape, source.test) == (1797, (1, 8, 8), None)
    assert source.train.images.dtype == torch.float32
    assert (float(source.train.images.min()), float(source.train.images.max())) == (0, 1)
    assert torch.equal(source.train.images * 16, (source.train.images * 16).round())
    assert source.train.labels[:10].tolist() == list(range(10))
    assert (source.title, source.train.classes) == ("Digits", 10)


def test_planted() -> None:
    source = load_source("planted")
    assert (len(source.train), source.test, source.title) == (3000, None, "Planted")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset 'cifar-10'. Did you mean 'cifar10'\?"):
        load_source("cifar-10")
    with pytest.raises(ValueError, match=r"Known: cifar10, .*folder:PATH, mnist"):
        load_source("svhn")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["", "MNIST/raw", "mnist"])
def test_idx_files(tmp_path: Path, where, zipped) -> None:
    files = idx_files(zipped)
    fill(tmp_path / where, files)
    source = local("mnist", tmp_path)
    for part, (images, labels) in ((source.train, TRAIN), (source.test, TEST)):
        assert torch.equal(part.images[:, 0], torch.from_numpy(images))
        assert torch.equal(part.labels, torch.from_numpy(labels).long())
    assert source.title == "MNIST"
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert source.train.provenance["files"] | source.test.provenance["files"] == digests


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, idx_files())
    monkeypatch.setenv("NOTBUGS_DATA", str(tmp_path))
    assert len(load_source("mnist", download=False).train) == 20


def test_without_folder_the_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    monkeypatch.delenv("NOTBUGS_DATA", raising=False)
    monkeypatch.delenv("NOTBUGS_CACHE")  # the tests' own
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    fill(tmp_path / "notbugs" / "mnist", idx_files())
    assert len(load_source("mnist", download=False).train) == 20


def test_a_note_beside_the_files_is_the_title(tmp_path: Path) -> None:
    fill(tmp_path / "mnist", idx_files())
    (tmp_path / "mnist" / "PROVENANCE.txt").write_text("MNIST (JPEG): re-encoded, and more\nx\n")
    source = local("mnist", tmp_path)
    assert (source.note, source.title) == ("MNIST (JPEG)", "MNIST (JPEG)")
    assert source.test.provenance["note"] == "MNIST (JPEG)"


def test_missing_files_without_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No mnist in .*MNIST/raw.*or allow the download"):
        local("mnist", tmp_path)
    with pytest.raises(DataError, match=r"No cifar10 in .*data_batch_1.bin.*pickled and is not"):
        local("cifar10", tmp_path)


def served(kind, server, files, prefixes=("/gone/", "/")):
    server.files = {f"/{name}": content for name, content in files.items()}
    return replace(kind, mirrors=[f"{server.at}{prefix}" for prefix in prefixes])


def test_idx_files_are_downloaded_once(server, tmp_path: Path) -> None:
    files = idx_files()
    sums = [hashlib.md5(content).hexdigest() for content in files.values()]
    kind = replace(served(MNIST, server, files), checksums=sums)
    for _ in range(2):
        source = load_idx(kind, tmp_path, download=True, progress=False)
        assert (len(source.train), len(source.test)) == (20, 10)
    assert len(server.asked) == 8  # four files, the first mirror lacks each
    assert sorted(p.name for p in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(files)


def records(n, seed, label_bytes=1, classes=10):
    random = np.random.default_rng(seed)
    whole = random.integers(0, 256, (n, label_bytes + 3072), np.uint8)
    whole[:, :label_bytes] = random.integers(0, min(classes, 20), (n, label_bytes))
    return whole


NAMES10 = "\n".join(CIFAR10.class_names or ()) + "\n\n"
BATCHES = {f"data_batch_{i}.bin": records(4, i) for i in range(1, 6)}
BATCHES |= {"test_batch.bin": records(3, 9)}
CIFAR10_FILES = {name: array.tobytes() for name, array in BATCHES.items()}
CIFAR10_FILES |= {"batches.meta.txt": NAMES10.encode()}


def cifar_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (CIFAR10_FILES | {"readme.html": b"hello"}).items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar_is_downloaded_once_and_unpacked(server, tmp_path: Path) -> None:
    archive = cifar_archive()
    kind = served(CIFAR10, server, {"c.tar.gz": archive}, ("/gone/c.tar.gz", "/c.tar.gz"))
    kind = replace(kind, checksum=f"md5:{hashlib.md5(archive).hexdigest()}")
    for _ in range(2):
        source = load_cifar(kind, tmp_path, download=True, progress=False)
        assert (len(source.train), len(source.test)) == (20, 3)
    assert server.asked == ["/gone/c.tar.gz", "/c.tar.gz"]
    assert "readme.html" not in {p.name for p in (tmp_path / "cifar-10-batches-bin").iterdir()}


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No folder '.*nowhere'. Check the path after 'folder:'"):
        load_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"`name` must name a folder after 'folder:'"):
        load_source("folder:")
