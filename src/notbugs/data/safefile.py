"""Safetensors files: atomic writes with a digest, and reads with a diagnosis of errors."""

import json
import os
import zipfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from notbugs.core.digests import digest_of, tensor_bytes
from notbugs.core.errors import DataError, bad_type
from notbugs.data.writing import write_file

What: TypeAlias = Literal["weights", "data"]
"""The expected content of a file, which determines the remedy in error messages."""

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
"""What the format calls the types of numbers."""
DIGEST = "notbugs.digest"
"""The entry of the metadata that holds a digest of the tensors and of the other entries."""

PICKLE_REMEDY: Mapping[What, str] = {
    "weights": (
        "Give the module of its weights, which are then read alone (--model net.py:make --data "
        "NAME), or convert it: notbugs convert FILE --architecture NAME --data NAME --out OUT."
    ),
    "data": "Lists of tensors can be read with import_torch_lists.",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically, with a digest of its content.

    The folder is created if need be.

    **Raises** StoreError where the disk is full, or the folder cannot be written; TypeError for a
    tensor of numbers that the format does not have. No file is left half written, and an older
    one stays as it was.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            known = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
            raise bad_type(
                f"tensors['{name}']", f"one of {known}", tensor, f"It is {tensor.dtype}."
            )
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # aligns all
    head = _header(
        {name: tensors[name] for name in order},
        {**metadata, DIGEST: digest_of(tensors, metadata)},
    )
    # One tensor at a time, without a copy of all: a set may be larger than the memory.
    content = (tensor_bytes(tensors[name]) for name in order)
    size = len(head) + sum(tensor.nbytes for tensor in tensors.values())
    write_file(path, lambda file: file.writelines(chain([head], content)), size=size)


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file that holds these tensors in this order.

    Written here because safetensors wants all bytes at once, and writes metadata in random order.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        kind, shape = DTYPES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path, *, what: What = "weights") -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors.

    **Raises** DataError where the file is missing, a pickle, corrupt or truncated.
    """
    metadata = _read(path, what, tensors=False)[1]
    metadata.pop(DIGEST, None)
    return metadata


def read_tensors(path: Path, *, what: What = "weights") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors (on the CPU) and the metadata of a safetensors file.

    Files of `write_tensors` are checked against their digest; other files have none.

    **Raises** DataError where the file is missing, a pickle, corrupt, truncated, or was changed
    after `write_tensors` wrote it.
    """
    tensors, metadata = _read(path, what, tensors=True)
    digest = metadata.pop(DIGEST, None)
    if digest is not None and digest != digest_of(tensors, metadata):
        raise DataError(
            f"'{path}' is damaged: its digest says that it was changed after it was written. "
            "Copy, download or make it again."
        )
    return tensors, metadata


def _read(path: Path, what: What, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise DataError(f"No {what} file '{path}'. Check the path.")
    try:
        # safetensors opens the path separately for header and tensors: retry if the file was
        # replaced in between.
        while True:
            with path.open("rb") as held:
                content = _opened(path, tensors)
                if os.path.samestat(os.fstat(held.fileno()), path.stat()):
                    break
        if isinstance(content, Exception):
            raise content
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"Cannot read '{path}': {_diagnosis(path, what, error)}") from error
    return content


def _opened(path: Path, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]] | Exception:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys()) if tensors else []
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        return error


def _diagnosis(path: Path, what: What, error: Exception) -> str:
    """Guesses what a file that safetensors refused is, and names a remedy."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as unreadable:
        return f"{unreadable.strerror}. Check its permissions."
    # A safetensors header has "{" there, and its first bytes can look like a pickle's.
    if start[8:9] != b"{":
        if _is_npz(path):
            reader = " Read it with import_npz." if what == "data" else ""
            return f"it is an .npz file, not safetensors.{reader}"
        pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
        if pickled or start.startswith(b"PK\x03\x04"):
            return (
                "it is a pickle (torch.save writes those), not safetensors; "
                f"notbugs never unpickles untrusted data. {PICKLE_REMEDY[what]}"
            )
    return (
        f"it is truncated, corrupt or not a safetensors file ({error}). "
        "Copy, download or make it again."
    )


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):  # not a zip, or a broken one
        return False
