"""Safetensors files, written whole or not at all, and read with a diagnosis of what is wrong."""

import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from notbugs.core.errors import DataError, StoreError

RECIPE = (
    "Pickles can run code and are never opened. If you trust the file, convert it once: "
    "safetensors.torch.save_file(torch.load('model.pt', weights_only=True), 'model.safetensors')."
)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically; the folder is created if need be.

    Raises:
        StoreError: the disk is full, or the folder cannot be written. No file is left
            half written, and an older one stays as it was.
    """
    # Copies: tied weights share storage, and channels-last ones are not contiguous.
    whole = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    content = to_bytes(whole, metadata=dict(metadata))
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise StoreError(
            f"Cannot write '{path}': {why} ({len(content):,} bytes needed). "
            "Free some space or choose another folder."
        ) from error
    finally:
        _remove(part)


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors.

    Raises:
        DataError: the file is missing, a pickle, corrupt or truncated.
    """
    return _read(path, tensors=False)[1]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors (on the CPU) and the metadata of a safetensors file.

    Raises:
        DataError: the file is missing, a pickle, corrupt or truncated.
    """
    return _read(path, tensors=True)


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise DataError(f"No weights file '{path}'. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys()) if tensors else []
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _diagnosis(path, error) from error


def _diagnosis(path: Path, error: Exception) -> DataError:
    # Only after safetensors failed: a good file's first bytes can look like a pickle's.
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as unreadable:
        return DataError(f"Cannot read '{path}': {unreadable.strerror}. Check its permissions.")
    zipped = start.startswith(b"PK\x03\x04")
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if start[8:9] != b"{" and (zipped or pickled):
        return DataError(f"'{path}' is a pickle (a torch .pt file), not safetensors. {RECIPE}")
    return DataError(
        f"'{path}' is truncated, corrupt or not a safetensors file ({error}). "
        "Copy or download it again."
    )


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # the folder may be gone or read-only: the first error says so
        return
