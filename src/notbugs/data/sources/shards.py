"""Loads pictures from tar archives, as WebDataset writes them."""

import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import cast

import torch

from notbugs.core.errors import DataError, DataWarning
from notbugs.core.limits import CLASSES
from notbugs.data.dataset import ImageData
from notbugs.data.decoding import SUFFIXES, Kind, OpenFile, check_side, common_mode, kind_in
from notbugs.data.sources.folder import conversions, read_all
from notbugs.data.sources.source import published

LABEL = ".cls"
"""The ending of the file that holds an image's class as a number."""
MOST_BYTES = 2**28
"""Bytes of the largest file in an archive that is read."""


def load_shards(
    paths: Sequence[Path], *, side: int | None = None, class_names: Sequence[str] | None = None
) -> ImageData:
    """The pictures of WebDataset's tar archives, in their order, as uint8.

    A sample is the files that follow one another under one name: a picture (by its ending, see
    `decoding.SUFFIXES`) and its class, a number in a file that ends in .cls. Samples without
    both are passed over, and so are other files. Nothing is unpacked.

    - `side`: as in `load_folder`, which says what is done with modes as well
    - `class_names`: in the order of the numbers; None: the numbers

    **Raises** DataError where an archive cannot be read or holds no such sample, a class is no
    number, or for pictures as `load_folder` does; StoreError where they do not fit on the disk.
    """
    check_side(side)
    labels, kinds, changes = list[int](), set[Kind](), Counter[str]()
    for file, content, label in _pictures(paths):
        labels.append(label)
        kinds.add(kind_in(file, content))
    if not labels:
        names = ", ".join(f"'{path}'" for path in paths)
        raise DataError(f"No picture with its class ({LABEL}) beside it is in {names}.")
    contents = ((file, content.read()) for file, content, _ in _pictures(paths))
    mode, name = common_mode(kinds), paths[0].stem
    images, digest = read_all(contents, len(labels), Path(), mode, changes, side)
    if sentences := conversions(kinds, changes):
        text = f"Of the pictures in '{paths[0]}' and so on ({len(labels)} read), "
        warnings.warn(f"{text}{'; '.join(sentences)}.", DataWarning, stacklevel=2)
    names = class_names or [str(i) for i in range(max(labels) + 1)]
    files = {f"{len(labels)} images": digest}
    return published(images, torch.tensor(labels), names, name=name, part="all", files=files)


def _pictures(paths: Sequence[Path]) -> Iterator[tuple[Path, OpenFile, int]]:
    """Name, content and class of each picture."""
    for path in paths:
        try:
            with tarfile.open(path, "r:") as archive:
                members = (member for member in _members(archive) if member.isfile())
                for name, files in groupby(members, key=lambda member: _split(member.name)[0]):
                    by_ending = {_split(file.name)[1]: file for file in files}
                    picture = next((f for e, f in by_ending.items() if e in SUFFIXES), None)
                    if picture is None or LABEL not in by_ending:
                        continue
                    label = _label(
                        f"{path}/{name}", _content(path, archive, by_ending[LABEL]).read()
                    )
                    yield (
                        Path(f"{path.name}/{picture.name}"),
                        _content(path, archive, picture),
                        label,
                    )
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(
                f"'{path}' is not a sound .tar archive ({error}). One that is compressed must be "
                "uncompressed."
            ) from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, which does not keep them, however many there are."""
    while (member := archive.next()) is not None:
        archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _split(name: str) -> tuple[str, str]:
    """The name of a sample and the ending of its file, which begins at the first dot."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, f".{ending.lower()}"


def _content(path: Path, archive: tarfile.TarFile, file: tarfile.TarInfo) -> OpenFile:
    content = archive.extractfile(file)
    if content is None or file.size > MOST_BYTES:
        raise DataError(
            f"'{path}/{file.name}' has {file.size:,} bytes; at most {MOST_BYTES:,} are read."
        )
    return cast(OpenFile, content)


def _label(name: str, content: bytes) -> int:
    text = content.decode(errors="replace").strip()
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if not is_number or int(text) >= CLASSES:
        raise DataError(
            f"The class of '{name}' is '{text[:20]}'; it must be a number below {CLASSES:,}."
        )
    return int(text)
