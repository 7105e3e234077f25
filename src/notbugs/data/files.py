"""ImageData in its own file: safetensors with the provenance inside, lossless both ways."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from notbugs.core.errors import DataError, bad_value
from notbugs.data.dataset import ImageData
from notbugs.data.writing import write_file

KEY = "notbugs.data"
FORMAT = 1
COLUMN = "column."
SUFFIX = ".safetensors"


def save(data: ImageData, path: Path) -> None:
    """Writes a set to `path` (.safetensors), and its recipe beside it as readable .json.

    The safetensors file is complete by itself: the .json repeats its name, classes,
    provenance, size and digest for people and scripts to read.

    Raises:
        ValueError: `path` does not end in .safetensors.
        StoreError: the disk is full or the folder cannot be written. Nothing half written
            is left, and an older file stays as it was.
    """
    if path.suffix != SUFFIX:
        raise bad_value("path", f"end in {SUFFIX}", f"'{path}'", f"Add {SUFFIX}.")
    tensors = {"images": data.images, "labels": data.labels}
    tensors |= {f"{COLUMN}{name}": column for name, column in data.columns.items()}
    # Copies: columns may share storage with labels, and selected rows are not contiguous.
    whole = {k: t.detach().to("cpu", copy=True).contiguous() for k, t in tensors.items()}
    content = to_bytes(whole, metadata={KEY: json.dumps(_facts(data), sort_keys=True)})
    write_file(path, lambda file: file.write(content))
    recipe = json.dumps(_facts(data) | _figures(data), indent=2) + "\n"
    write_file(path.with_suffix(".json"), lambda file: file.write(recipe.encode()))


def load(path: Path) -> ImageData:
    """The set that `save` wrote to `path`, on the CPU.

    Raises:
        DataError: the file is missing, truncated, corrupt, a pickle (never opened), or not
            written by `save`.
    """
    tensors, metadata = _read(path)
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


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise DataError(f"No data file '{path}'. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"Cannot read '{path}': {_looks_like(path, error)}") from error


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


def _looks_like(path: Path, error: Exception) -> str:
    """What a file that is not safetensors seems to be, and what to do about it."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as unreadable:
        return f"{unreadable.strerror}. Check its permissions."
    if start[8:9] == b"{":  # a safetensors header: the file itself is damaged
        return f"it is truncated or corrupt ({error}). Copy or make it again."
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return "it is an .npz file. Read it with import_npz."
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5"):
        return (
            "it is a pickle (torch.save writes those); notbugs never unpickles untrusted data. "
            "Lists of tensors can be read with import_torch_lists."
        )
    return f"it is truncated, corrupt or not a safetensors file ({error}). Copy or make it again."
