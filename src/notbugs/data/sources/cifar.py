"""CIFAR-10 and CIFAR-100 in the publisher's binary files (the pickled ones are never read)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.data.dataset import ImageData
from notbugs.data.download import fetch, unpack
from notbugs.data.sources.source import Source, published, read_note, with_file

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class CifarSet:
    """One of the two sets: its folder, files and record format.

    A record is `label_bytes` labels (the last one is the class) and 3,072 pixels: red,
    green and blue planes, row by row.
    """

    name: str
    top: str
    folders: Sequence[str]
    train: Sequence[str]
    test: str
    names: str
    class_names: Sequence[str] | None
    classes: int
    label_bytes: int
    mirrors: Sequence[str]
    checksum: str


CIFAR10 = CifarSet(
    name="cifar10",
    top="cifar-10-batches-bin",
    folders=("cifar-10-batches-bin", "cifar10", "."),
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    classes=10,
    label_bytes=1,
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
)

CIFAR100 = CifarSet(
    name="cifar100",
    top="cifar-100-binary",
    folders=("cifar-100-binary", "cifar100", "."),
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    class_names=None,
    classes=100,
    label_bytes=2,
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    checksum="md5:03b5dce01913d631647c71ecec9e9cb8",
)


def load_cifar(kind: CifarSet, data_dir: Path, *, download: bool, progress: bool) -> Source:
    """The set from the first folder that holds all its files, else downloaded.

    CIFAR-100 keeps the superclass in the column "coarse_labels".

    **Raises** DataError where a file is missing, truncated or corrupt; a folder that holds some
    of the files is not filled up, since these may be a variant; DownloadError where no mirror
    delivered the archive.
    """
    folder = find_cifar(kind, data_dir) or _download(kind, data_dir, download, progress)
    names, note = _class_names(kind, folder), read_note(folder)
    train = _part(kind, folder, "train", kind.train, names, note)
    test = _part(kind, folder, "test", [kind.test], names, note)
    return Source(kind.name, train, test, note)


def _part(
    kind: CifarSet, folder: Path, part: str, files: Sequence[str], names: Sequence[str], note: str
) -> ImageData:
    images, labels, digests = list[Tensor](), list[Tensor](), dict[str, str]()
    for file in files:
        path = folder / file
        records, digests[file] = with_file(path, lambda raw, path=path: _records(kind, path, raw))
        images.append(records[:, kind.label_bytes :].reshape(-1, 3, SIDE, SIDE))
        labels.append(records[:, : kind.label_bytes].long())
    joined = torch.cat(labels)
    return published(
        torch.cat(images),
        joined[:, -1].contiguous(),
        names,
        name=kind.name,
        part=part,
        files=digests,
        note=note,
        columns={"coarse_labels": joined[:, 0].contiguous()} if kind.label_bytes == 2 else {},
    )


def _records(kind: CifarSet, path: Path, raw: bytes) -> Tensor:
    """The records of one file, uint8 [n, label bytes + 3072]."""
    size = kind.label_bytes + PIXELS
    if not raw or len(raw) % size:
        raise DataError(
            f"'{path}' is truncated or corrupt: {len(raw):,} bytes are not a whole number of "
            f"{size}-byte records. Replace it."
        )
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, size)
    highest = int(records[:, kind.label_bytes - 1].max())
    if highest >= kind.classes:
        raise DataError(
            f"'{path}' is corrupt or another set: it has the label {highest}, where "
            f"{kind.name} has 0..{kind.classes - 1}. Replace it."
        )
    return records


def _class_names(kind: CifarSet, folder: Path) -> Sequence[str]:
    path = folder / kind.names
    if not path.is_file() and kind.class_names is not None:
        return kind.class_names
    text, _ = with_file(path, lambda raw: raw.decode("utf-8", errors="replace"))
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) != kind.classes:
        raise DataError(f"'{path}' names {len(names)} classes, not {kind.classes}. Replace it.")
    return names


def find_cifar(kind: CifarSet, data_dir: Path) -> Path | None:
    """The folder of the set's files, where all are there."""
    wanted = [*kind.train, kind.test]
    if kind.class_names is None:
        wanted.append(kind.names)
    folders = (data_dir / folder for folder in kind.folders)
    return next((f for f in folders if all((f / file).is_file() for file in wanted)), None)


def _download(kind: CifarSet, data_dir: Path, download: bool, progress: bool) -> Path:
    folder = data_dir / kind.top
    if not download:
        raise DataError(
            f"No {kind.name} in '{data_dir}' (looked in {', '.join(kind.folders)} for "
            f"{', '.join([*kind.train, kind.test])}). Unpack the publisher's binary version "
            f"({kind.mirrors[0]}) there, or allow the download. The Python version is pickled "
            "and is not read."
        )
    _check_untouched(kind, folder)
    archive = fetch(kind.mirrors, checksum=kind.checksum, folder=data_dir, progress=progress)
    members = [f"{kind.top}/{file}" for file in (*kind.train, kind.test, kind.names)]
    unpack(archive, members, folder)
    return folder


def _check_untouched(kind: CifarSet, folder: Path) -> None:
    wanted = (*kind.train, kind.test)
    missing = [file for file in wanted if not (folder / file).is_file()]
    if len(missing) < len(wanted):
        raise DataError(
            f"'{folder}' is incomplete: it lacks {', '.join(missing) or kind.names}. Put that "
            "back, or remove the folder to download the whole set."
        )
