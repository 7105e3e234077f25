"""Loads the user's own images from a folder with one subfolder per class."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from notbugs.core import mapped
from notbugs.core.errors import DataError, DataWarning
from notbugs.data.dataset import ImageData
from notbugs.data.decoding import (
    LOSSLESS,
    SUFFIXES,
    Kind,
    check_side,
    common_mode,
    in_order,
    kind_of,
)
from notbugs.data.sources.source import Source, published, read_note

PARTS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
"""Folders (in small letters) that hold a part of a set, each with the class folders."""
SYSTEM = ("__MACOSX", "@eaDir")
"""Folders that operating systems create, with files that look like images."""
UNREADABLE_ENDINGS = frozenset(
    (".arw", ".avif", ".cr2", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".tga")
)
"""Endings of images that cannot be read; the warning counts them."""

ClassFiles: TypeAlias = Mapping[str, Sequence[Path]]
"""The image files of each class of a part."""


def load_folder(folder: Path | str, *, side: int | None = None) -> Source:
    """The images in `folder`, one subfolder a class; classes and files sorted by name.

    A class's images may lie in further folders within its own. Subfolders called train (or
    training), val (valid, validation) and test (testing) that hold the class folders are the
    parts of the set: test, or where there is none val, is its official test part; val beside
    test is the validation part. PNG, JPEG, BMP, GIF, TIFF, WebP and PPM files are read, by their
    endings; hidden files and other endings are passed over.

    Images are turned upright as EXIF says and must then have one size, unless `side` is given:
    they are then brought to side x side pixels (`decoding.decoded`). They are grey where all
    files are, RGBA where all are transparent, else RGB: what is transparent is laid on white, 16
    bits become 8, of several frames the first is taken. A `DataWarning` says what was done.

    **Raises** DataError for fewer than two class folders, an empty one, parts with different
    classes, mixed sizes, or a damaged image; StoreError where a large set does not fit on disk.
    """
    check_side(side)
    folder = Path(folder).expanduser()
    name = f"folder:{folder}"
    if not folder.is_dir():
        raise DataError(f"No folder '{folder}'. Check the path after 'folder:'.")
    note, places = read_note(folder), _parts(folder)
    files = {part: class_files(place) for part, place in places.items()}
    kinds = {kind_of(path) for own in files.values() for path in joined(own)}
    mode, changes = common_mode(kinds), Counter[str]()
    parts = {
        part: _part(place, files[part], mode, changes, side, name=name, part=part, note=note)
        for part, place in places.items()
    }
    _check_same_format(parts, places)
    _warn_of_changes(
        folder, places.values(), kinds, changes, sum(len(data) for data in parts.values())
    )
    val, test = parts.get("val"), parts.get("test")
    return Source(name, next(iter(parts.values())), test or val, note, val if test else None)


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of the parts, train first; "all" where the set has no parts."""
    subfolders = _folders(folder)
    # Two classes that happen to be called "test" and "train" hold images, not folders.
    parts = [path for path in subfolders if path.name.lower() in PARTS and _folders(path)]
    if not parts:
        return {"all": folder}
    by_part = {PARTS[path.name.lower()]: path for path in parts}
    names = ", ".join(f"'{path.name}'" for path in subfolders)
    if len(by_part) < len(subfolders) or "train" not in by_part:
        raise DataError(
            f"'{folder}' holds the folders {names}. Those called {', '.join(PARTS)} are parts of a "
            "set: one of each kind, train among them, and no folder beside them. Rename or move "
            "the others, or name one part alone after 'folder:'."
        )
    return {part: by_part[part] for part in ("train", "val", "test") if part in by_part}


def class_files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class folder, sorted by name.

    **Raises** DataError for fewer than two class folders and an empty one.
    """
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"'{folder}' has no class folders. Put the images into one subfolder for each class."
        )
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has one class only ('{classes[0].name}'). A classifier needs two or more."
        )
    files = {path.name: [p for p in _walk(path) if _ending(p) in SUFFIXES] for path in classes}
    for path, own in zip(classes, files.values(), strict=True):
        if not own:
            raise DataError(
                f"The class folder '{path}' is empty: no image ({', '.join(sorted(SUFFIXES))}) "
                "is in it. Add images or remove the folder."
            )
    return files


def _part(
    folder: Path,
    files: ClassFiles,
    mode: str,
    changes: Counter[str],
    side: int | None,
    *,
    name: str,
    part: str,
    note: str,
) -> ImageData:
    paths = joined(files)
    images, digest = read_all(contents_of(paths), len(paths), folder, mode, changes, side)
    labels = torch.repeat_interleave(torch.tensor([len(own) for own in files.values()]))
    named = {f"{len(images)} images": digest}
    return published(images, labels, list(files), name=name, part=part, files=named, note=note)


def _check_same_format(parts: Mapping[str, ImageData], places: Mapping[str, Path]) -> None:
    first, *others = parts
    train = parts[first]
    for part in others:
        other = parts[part]
        if train.class_names != other.class_names or train.shape != other.shape:
            raise DataError(
                f"'{places[first]}' and '{places[part]}' differ: classes "
                f"{', '.join(train.class_names)} of shape {train.shape} against "
                f"{', '.join(other.class_names)} of shape {other.shape}. Give both the same class "
                "folders and one image size."
            )


def joined(files: ClassFiles) -> list[Path]:
    """All files, class by class."""
    return [path for own in files.values() for path in own]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """The sorted entries of a folder, without hidden and system entries."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot read the folder '{folder}': {error.strerror}.") from error
    return [path for path in entries if not path.name.startswith(".") and path.name not in SYSTEM]


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and the folders within, links included."""
    above = (*above, folder.resolve())
    for path in _entries(folder):
        if path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in above:
            yield from _walk(path, above)


def _ending(path: Path) -> str:
    return path.suffix.lower()


def read_all(
    files: Iterable[tuple[Path, bytes]],
    count: int,
    folder: Path,
    mode: str,
    changes: Counter[str],
    side: int | None,
) -> tuple[Tensor, str]:
    """All of `count` images, uint8 [n, c, h, w], and the SHA-256 over their names and bytes.

    Names are relative to `folder`; conversions are counted in `changes`.

    **Raises** DataError for a damaged image, and for mixed sizes where there is no `side`.
    """
    digest, first = hashlib.sha256(), Path()
    images = torch.empty(0)
    for i, (path, content, image, done) in enumerate(in_order(files, mode, side=side)):
        line = f"{path.relative_to(folder).as_posix()} {len(content)}\n"
        digest.update(line.encode(errors="surrogateescape") + content)
        changes.update(done)
        if not i:
            images, first = mapped.empty((count, *image.shape), torch.uint8), path
        if image.shape != images.shape[1:]:
            raise DataError(
                f"The images have mixed sizes: '{first}' is {_size(images[0])}, '{path}' is "
                f"{_size(image)}. Bring all to one size: notbugs data import, with --side 224 "
                "--to set.safetensors; then --data set.safetensors."
            )
        images[i] = image
    return images, digest.hexdigest()


def contents_of(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Each file with its bytes.

    **Raises** DataError where one cannot be read.
    """
    for path in paths:
        try:
            yield path, path.read_bytes()
        except OSError as error:
            raise DataError(f"Cannot read '{path}': {error.strerror}.") from error


def _size(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{width} by {height} with {channels} channel{'s' if channels > 1 else ''}"


def conversions(kinds: set[Kind], changes: Counter[str]) -> list[str]:
    """What was done to pictures, where it changed some of them, for a warning."""
    if len({kind.mode for kind in kinds}) < 2 and not changes.keys() - LOSSLESS:
        return []
    return [f"{n} {'was' if n == 1 else 'were'} {change}" for change, n in changes.items()]


def _warn_of_changes(
    folder: Path, places: Iterable[Path], kinds: set[Kind], changes: Counter[str], count: int
) -> None:
    """Warns once about conversions of the images and images that were left out."""
    sentences = conversions(kinds, changes)
    by_ending = Counter(_ending(p) for place in places for c in _folders(place) for p in _walk(c))
    sentences += [
        f"{n} '{e}' could not be read"
        for e, n in sorted(by_ending.items())
        if e in UNREADABLE_ENDINGS
    ]
    stray = sum(_ending(p) in SUFFIXES for place in places for p in _entries(place) if p.is_file())
    sentences += [f"{stray} outside the class folders left out"] if stray else []
    if sentences:
        text = f"Of the images in '{folder}' ({count} read), {'; '.join(sentences)}."
        warnings.warn(text, DataWarning, stacklevel=4)
