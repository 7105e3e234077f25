"""Folders of ImageNet's relatives, named by WordNet ids: ImageNet-A, ImageNet-O and the like."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

import torch

from notbugs.core.errors import DataError, check_count
from notbugs.core.strict_json import SchemaError, parse_json
from notbugs.data.dataset import ImageData
from notbugs.data.sources.folder import class_files, contents_of, joined, read_all
from notbugs.data.sources.source import published, read_note

SYNSET = re.compile(r"n\d{8}")
REMEDY = (
    "Give the ids in the order of the model's classes: imagenet_class_index.json, a text file with "
    "an id at the start of each line, or the folder of ImageNet's own validation images."
)


def read_synsets(path: Path | str) -> tuple[str, ...]:
    """The WordNet ids of a model's classes, such as ImageNet-1k's, in their order.

    - `path`: imagenet_class_index.json ({"0": ["n01440764", "tench"], ...}) or a list of ids as
      JSON; a text file whose lines begin with an id; or a folder with a subfolder a class, which
      are numbered by name, as ImageNet's are

    **Raises** DataError for a file that cannot be read, what is no id, and an id that comes twice.
    """
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
            names = [name for name in names if not name.startswith(".")]
        else:
            names = _listed(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}. {REMEDY}") from error
    odd = next((name for name in names if not SYNSET.fullmatch(name)), None)
    if odd is not None or len(names) < 2:
        what = "lists fewer than two ids" if odd is None else f"holds '{odd[:40]}', no WordNet id"
        raise DataError(f"'{path}' {what}. {REMEDY}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"'{path}' lists '{twice}' twice. {REMEDY}")
    return tuple(names)


def load_synset_folder(
    folder: Path | str, synsets: tuple[str, ...] | None = None, *, side: int = 224
) -> ImageData:
    """Pictures of any size in folders named by WordNet ids, as uint8 [n, 3, side, side].

    What is cut out of each, and how it is resampled: `decoding.decoded`.

    - `synsets`: the ids of the model's classes, in order (`read_synsets`). Labels are their
      numbers, so that a model of 1,000 classes is judged on a folder of 200. None: the folders are
      numbered by name, as of outliers, whose classes no model knows.

    **Raises** DataError for a folder without class folders, one that is no class of the model, a
    damaged picture; StoreError where they do not fit on the disk.
    **Source**: Hendrycks et al. 2019 (arXiv 1907.07174): 7,500 pictures of 200 classes of
    ImageNet-1k in ImageNet-A, 2,000 of none of them in ImageNet-O.
    """
    check_count(side, "side")
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"No folder '{folder}'. Check the path.")
    files = class_files(folder)
    names = tuple(files) if synsets is None else synsets
    strange = [name for name in files if name not in names]
    if strange:
        raise DataError(
            f"'{folder}' holds '{strange[0]}', which is none of the model's {len(names)} classes "
            f"({len(strange)} such folders). Give the ids of the model's classes in their order, "
            "or none for outliers."
        )
    paths = joined(files)
    contents = contents_of(paths)
    images, digest = read_all(contents, len(paths), folder, "RGB", Counter(), side)
    numbers = torch.tensor([names.index(name) for name in files])
    labels = numbers.repeat_interleave(torch.tensor([len(own) for own in files.values()]))
    return published(
        images,
        labels,
        names,
        name=folder.name,
        part="all",
        files={f"{len(images)} images": digest},
        note=read_note(folder),
    )


def _listed(content: bytes, path: Path) -> list[str]:
    """The ids in a file of either format."""
    if content.lstrip()[:1] in (b"{", b"["):
        try:
            value = parse_json(content)
        except SchemaError as error:
            raise DataError(f"'{path}' is not sound JSON ({error}). {REMEDY}") from error
        return _in_json(value, path)
    lines = content.decode("utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.split()]


def _in_json(value: Any, path: Path) -> list[str]:
    """The ids in a list, or in an object by number; each alone or as the first of a list."""
    if isinstance(value, dict):
        by_number, numbers = cast("dict[str, Any]", value), [str(i) for i in range(len(value))]
        if by_number.keys() != set(numbers):
            raise DataError(f"The classes of '{path}' are not numbered 0, 1, 2, ... {REMEDY}")
        value = [by_number[number] for number in numbers]
    items = cast("list[Any]", value)
    return [str(item[0] if isinstance(item, list) and item else item) for item in items]
