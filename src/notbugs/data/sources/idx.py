"""MNIST and Fashion-MNIST in their publishers' IDX files, compressed or not."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.core.limits import memory_shortage
from notbugs.data.dataset import ImageData
from notbugs.data.download import fetch
from notbugs.data.sources.source import Source, published, read_note, with_file

IMAGES, LABELS = 0x803, 0x801
"""The magic numbers: unsigned bytes in three dimensions, and in one."""

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxSet:
    """The locations and checksums of a set in IDX format.

    `checksums` are the MD5 of the four compressed files; `test_labels` is the MD5 of the
    bytes of the 10,000 test labels, which distinguishes the two sets.
    """

    name: str
    folders: Sequence[str]
    mirrors: Sequence[str]
    checksums: Sequence[str]
    class_names: Sequence[str]
    test_labels: str


MNIST = IdxSet(
    name="mnist",
    folders=("MNIST/raw", "mnist", "."),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    checksums=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    class_names=tuple(str(i) for i in range(10)),
    test_labels="073c3904dfbd3e141ff8aa01cfde6b15",
)

FASHION = IdxSet(
    name="fashion-mnist",
    folders=("FashionMNIST/raw", "fashion-mnist", ".", "/usr/share/datasets/fashion-mnist"),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    checksums=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    test_labels="8dea97a4e78c1bd1b5a6e8efbb870b6e",
)


def load_idx(kind: IdxSet, data_dir: Path, *, download: bool, progress: bool) -> Source:
    """The set from the first folder that holds all four files, else downloaded.

    **Raises** DataError where a file is missing, truncated, corrupt, or of the other set; files
    that are not the publisher's are not overwritten, since these may be a variant;
    DownloadError where no mirror delivered a file.
    """
    paths = find_idx(kind, data_dir) or _download(kind, data_dir, download, progress)
    note = read_note(paths[0].parent)
    train = _part(kind, "train", paths[0], paths[1], note)
    test = _part(kind, "test", paths[2], paths[3], note)
    return Source(kind.name, train, test, note)


def _part(kind: IdxSet, part: str, images: Path, labels: Path, note: str) -> ImageData:
    pixels, images_digest = with_file(images, lambda raw: _parsed(images, raw, IMAGES))
    classes, labels_digest = with_file(labels, lambda raw: _parsed(labels, raw, LABELS))
    _check_which(kind, labels, classes)
    return published(
        pixels[:, None],
        classes.long(),
        kind.class_names,
        name=kind.name,
        part=part,
        files={images.name: images_digest, labels.name: labels_digest},
        note=note,
    )


def _parsed(path: Path, raw: bytes, magic: int) -> Tensor:
    """The array in an IDX file, uint8 [n, height, width] or [n]."""
    file = gzip.GzipFile(fileobj=BytesIO(raw)) if path.suffix == ".gz" else BytesIO(raw)
    dims = 3 if magic == IMAGES else 1
    size = 4 * (1 + dims)
    head = _read(path, file, size)
    magic_found, *shape = struct.unpack(f">{1 + dims}I", head.ljust(size, b"\0"))
    if magic_found != magic:
        raise DataError(
            f"'{path}' is not an IDX file of {'images' if dims == 3 else 'labels'}: it begins "
            f"with {head[:4].hex() or 'nothing'}, not {magic:08x}. Replace it."
        )
    announced = math.prod(shape)
    if lacking := memory_shortage(announced):
        raise DataError(f"'{path}' announces {announced:,} bytes: {lacking}. Replace it.")
    body = _read(path, file, announced + 1)  # one byte more, to detect longer files
    if len(body) != announced or not announced:
        more = " at least" if len(body) > announced else ""
        raise DataError(
            f"'{path}' is truncated or corrupt: its header announces {announced:,} bytes, "
            f"{len(body):,} follow{more}. Replace it."
        )
    return torch.from_numpy(np.frombuffer(body, np.uint8).reshape(shape).copy())


def _read(path: Path, file: BytesIO | gzip.GzipFile, size: int) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is truncated or corrupt ({error}). Replace it.") from error


def _check_which(kind: IdxSet, path: Path, labels: Tensor) -> None:
    digest = hashlib.md5(labels.numpy().tobytes(), usedforsecurity=False).hexdigest()
    for other in (MNIST, FASHION):
        if other is not kind and digest == other.test_labels:
            raise DataError(
                f"'{path}' belongs to {other.name}, but {kind.name} was requested. The two have "
                f"the same file names: keep this one's in a folder '{kind.folders[0]}'."
            )


def find_idx(kind: IdxSet, data_dir: Path) -> list[Path] | None:
    """The set's files, where all are there."""
    for folder in kind.folders:
        paths = [_present(data_dir / folder, file) for file in FILES]
        if all(paths):
            return [path for path in paths if path]
    return None


def _present(folder: Path, file: str) -> Path | None:
    """The file, compressed or not, also under the name with a dot that some archives use."""
    spellings = (file, file.replace("-idx", ".idx"))
    paths = [folder / (name + end) for name in spellings for end in (".gz", "")]
    return next((path for path in paths if path.is_file()), None)


def _download(kind: IdxSet, data_dir: Path, download: bool, progress: bool) -> list[Path]:
    folder = data_dir / kind.folders[0]
    if not download:
        raise DataError(
            f"No {kind.name} in '{data_dir}' (looked in {', '.join(kind.folders)}). Put "
            f"{', '.join(FILES)} (.gz) into '{folder}', or allow the download."
        )
    _check_untouched(kind, folder)
    return [
        fetch(
            [f"{mirror}{file}.gz" for mirror in kind.mirrors],
            checksum=f"md5:{md5}",
            folder=folder,
            progress=progress,
        )
        for file, md5 in zip(FILES, kind.checksums, strict=True)
    ]


def _check_untouched(kind: IdxSet, folder: Path) -> None:
    for file, md5 in zip(FILES, kind.checksums, strict=True):
        path = folder / f"{file}.gz"
        if not path.is_file():
            continue
        digest, _ = with_file(path, lambda raw: hashlib.md5(raw, usedforsecurity=False).hexdigest())
        if digest != md5:
            raise DataError(
                f"'{path}' is not the publisher's, and '{folder}' lacks other files of "
                f"{kind.name}. Put these back, or remove the file to download it."
            )
