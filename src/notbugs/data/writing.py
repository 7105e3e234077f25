"""Atomic writing of files and folders."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from notbugs.core.errors import StoreError
from notbugs.core.strict_json import to_json


def write_file(path: Path, write: Callable[[BinaryIO], object], *, size: int | None = None) -> None:
    """Writes a file atomically: `write` fills a temporary file, which is then renamed.

    `size` is the number of bytes that will be written, if known: an error then names it.

    **Raises** StoreError where the disk is full or the folder cannot be written. Nothing half
    written is left, and an older file stays as it was.
    """
    part = _temporary_path(path)
    try:
        with write_errors(path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        # In a read-only folder this fails too; the first error is raised.
        with _quiet():
            part.unlink(missing_ok=True)


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Writes a value as JSON, in which numbers that are not finite are null.

    **Raises** StoreError as `write_file`.
    """
    text = to_json(value, indent=indent).encode()
    write_file(path, lambda file: file.write(text), size=len(text))


def check_free(path: Path) -> None:
    """Refuses a path for a new folder that is in use.

    **Raises** StoreError where `path` is there and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise StoreError(f"'{path}' is already there and not empty. Choose another folder.")


@contextmanager
def new_folder(path: Path) -> Generator[Path, None, None]:
    """Yields a temporary folder to fill, which is renamed to `path` if the block succeeds.

    **Raises** StoreError where `path` is there and is not an empty folder, the disk is full, or
    the folder above cannot be written.
    """
    check_free(path)
    part = _temporary_path(path)
    try:
        with write_errors(path):
            part.mkdir(parents=True)
            yield part
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def write_errors(path: Path, size: int | None = None) -> Generator[None, None, None]:
    """Turns an OSError into a `StoreError` that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"Cannot write '{path}': {_reason(error, size)}") from error


def _reason(error: OSError, size: int | None) -> str:
    """The reason of a failed write, with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = "the disk is full" if error.errno == errno.ENOSPC else "the quota is used up"
        needed = "" if size is None else f" ({size:,} bytes needed)"
        return f"{full}{needed}. Free some space or choose another folder."
    if error.errno == errno.ENAMETOOLONG:
        name = Path(error.filename or "").name
        which = f"'{name[:40]}…' ({len(os.fsencode(name))} bytes)" if name else "a name"
        return f"{which} is longer than the file system takes. Choose a shorter one."
    return f"{error.strerror or error}. Choose another folder."


@contextmanager
def _quiet() -> Generator[None, None, None]:
    try:
        yield
    except OSError:
        return


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
