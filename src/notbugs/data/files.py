"""Saves and loads `ImageData` losslessly as safetensors with its provenance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json
from notbugs.core.strict_json import to_json
from notbugs.data.dataset import ImageData
from notbugs.data.safefile import read_tensors, write_tensors
from notbugs.data.writing import write_json

KEY = "notbugs.data"
FORMAT = 1
COLUMN = "column."
SUFFIX = ".safetensors"


class Versioned(TypedDict):
    """The field that every format version has."""

    format: int


@dataclass(frozen=True)
class SetHeader:
    """The metadata of a set's file."""

    format: int
    name: str
    class_names: list[str]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class SetSummary(SetHeader):
    """The .json beside a set's file: its metadata, size and digest."""

    images: int
    shape: list[int]
    digest: str


def save(data: ImageData, path: Path | str) -> None:
    """Writes a set to `path` (.safetensors), and its metadata beside it as .json.

    The safetensors file is complete by itself: the .json repeats its name, classes,
    provenance, size and digest for people and scripts to read.

    **Raises** ValueError where `path` does not end in .safetensors; StoreError where the disk
    is full or the folder cannot be written. Nothing half written is left, and an older file
    stays as it was.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise bad_value("path", f"end in {SUFFIX}", f"'{path}'", f"Add {SUFFIX}.")
    tensors = {"images": data.images, "labels": data.labels}
    tensors |= {f"{COLUMN}{name}": column for name, column in data.columns.items()}
    facts = asdict(_header(data))
    write_tensors(path, tensors, {KEY: to_json(facts, sort_keys=True)})
    figures = {"images": len(data), "shape": list(data.shape), "digest": data.digest}
    write_json(path.with_suffix(".json"), facts | figures)


def load(path: Path | str) -> ImageData:
    """The set that `save` wrote to `path`, on the CPU.

    **Raises** DataError where the file is missing, truncated, corrupt, a pickle (never opened),
    or not written by `save`.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, what="data")
    facts = _parse(path, metadata)
    columns = {k.removeprefix(COLUMN): t for k, t in tensors.items() if k.startswith(COLUMN)}
    try:
        return ImageData(
            images=tensors["images"],
            labels=tensors["labels"],
            class_names=tuple(facts.class_names),
            name=facts.name,
            provenance=facts.provenance,
            columns=columns,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{path}' does not hold a valid set: {error} Make it again.") from error


def _header(data: ImageData) -> SetHeader:
    return SetHeader(FORMAT, data.name, list(data.class_names), dict(data.provenance))


def _parse(path: Path, metadata: Mapping[str, str]) -> SetHeader:
    if KEY not in metadata:
        raise DataError(
            f"'{path}' is a safetensors file, but not a set that notbugs saved "
            "(a weights file, perhaps?). Check the path."
        )
    of = f"the description in '{path}'"
    version = read_json(Versioned, metadata[KEY], of=of, remedy="Make it again.")["format"]
    if version != FORMAT:
        raise DataError(
            f"'{path}' has data format {version}; this version reads {FORMAT}. Update notbugs."
        )
    return read_json(SetHeader, metadata[KEY], of=of, remedy="Make it again.")
