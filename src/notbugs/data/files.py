"""ImageData in its own file: safetensors with the provenance inside, lossless both ways."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from notbugs.core.errors import DataError, bad_value
from notbugs.data.dataset import ImageData
from notbugs.data.safefile import read_tensors, write_tensors
from notbugs.data.writing import write_file

KEY = "notbugs.data"
FORMAT = 1
COLUMN = "column."
SUFFIX = ".safetensors"


def save(data: ImageData, path: Path | str) -> None:
    """Writes a set to `path` (.safetensors), and its recipe beside it as readable .json.

    The safetensors file is complete by itself: the .json repeats its name, classes,
    provenance, size and digest for people and scripts to read.

    Raises:
        ValueError: `path` does not end in .safetensors.
        StoreError: the disk is full or the folder cannot be written. Nothing half written
            is left, and an older file stays as it was.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise bad_value("path", f"end in {SUFFIX}", f"'{path}'", f"Add {SUFFIX}.")
    tensors = {"images": data.images, "labels": data.labels}
    tensors |= {f"{COLUMN}{name}": column for name, column in data.columns.items()}
    write_tensors(path, tensors, {KEY: json.dumps(_facts(data), sort_keys=True)})
    recipe = json.dumps(_facts(data) | _figures(data), indent=2) + "\n"
    write_file(path.with_suffix(".json"), lambda file: file.write(recipe.encode()))


def load(path: Path | str) -> ImageData:
    """The set that `save` wrote to `path`, on the CPU.

    Raises:
        DataError: the file is missing, truncated, corrupt, a pickle (never opened), or not
            written by `save`.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, what="data")
    facts = _parse(path, metadata)
    columns = {k.removeprefix(COLUMN): t for k, t in tensors.items() if k.startswith(COLUMN)}
    try:
        return ImageData(
            images=tensors["images"],
            labels=tensors["labels"],
            class_names=tuple(facts["class_names"]),
            name=facts["name"],
            provenance=facts["provenance"],
            columns=columns,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{path}' does not hold a valid set: {error} Make it again.") from error


def _facts(data: ImageData) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": data.name,
        "class_names": list(data.class_names),
        "provenance": data.provenance,
    }


def _figures(data: ImageData) -> dict[str, Any]:
    return {"images": len(data), "shape": list(data.shape), "digest": data.digest}


def _parse(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise DataError(
            f"'{path}' is a safetensors file, but not a set that notbugs saved "
            "(a weights file, perhaps?). Check the path."
        )
    try:
        facts: Any = json.loads(metadata[KEY])
    except ValueError as error:
        raise DataError(f"The description in '{path}' is corrupt. Make it again.") from error
    version = cast("dict[str, Any]", facts).get("format") if isinstance(facts, dict) else None
    if version != FORMAT:
        raise DataError(
            f"'{path}' has data format {version}; this version reads {FORMAT}. Update notbugs."
        )
    return facts
