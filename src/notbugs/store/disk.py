"""The store's file-system layer: ownership of the folder, locks, fsync and error messages."""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notbugs.core.errors import StoreError
from notbugs.core.schema import REST, fit
from notbugs.core.strict_json import SchemaError, parse_json, to_json

MARKER = "notbugs-store.json"
SUBFOLDERS = ("partial", "locks")
FORMAT = 1
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Marker:
    """The content of a store's marker file."""

    format: int = 1
    others: dict[str, Any] = field(default_factory=dict[str, Any], metadata=REST)


def mark_as_store(root: Path) -> None:
    """Makes the folder a store; refuses a folder that holds other files."""
    if not (root / MARKER).exists():
        _create(root)
        return
    _check_format(root / MARKER)
    probe = root / f".probe-{secrets.token_hex(4)}"
    probe.touch()
    probe.unlink()


def restore_marker(root: Path) -> None:
    """Writes the marker again if the folder was deleted during a run, for later runs."""
    if not (root / MARKER).exists():
        _write_marker(root)


def is_store(folder: Path) -> bool:
    """Whether a folder holds a store, unfinished work of a store, or nothing."""
    if not folder.is_dir():
        return False
    # A run that was killed after its folder had been deleted leaves no marker.
    others = any(e.name not in SUBFOLDERS and not e.name.startswith(".") for e in folder.iterdir())
    return not others or (folder / MARKER).exists()  # another process may just have marked it


def _create(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if not is_store(root):
        raise StoreError(
            f"'{root}' is not empty and not a notbugs store. Choose an empty folder, "
            "so that nothing of yours is touched."
        )
    _write_marker(root)


def _write_marker(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    part = root / f".{MARKER}.{secrets.token_hex(4)}"
    part.write_text(to_json({"format": FORMAT}))
    part.replace(root / MARKER)


def _check_format(marker: Path) -> None:
    """Refuses a store written by a later version; a marker without a number is format 1."""
    try:
        number = fit(Marker, parse_json(marker.read_bytes())).format
    except SchemaError as error:
        raise StoreError(
            f"'{marker}' is damaged. If its folder is a notbugs store, delete that one file and "
            f'write {{"format": {FORMAT}}} in its place; else choose another folder.'
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"'{marker.parent}' is a store of format {number}; this version reads {FORMAT}. "
            "Update notbugs or choose another folder."
        )


@contextmanager
def disk_errors(root: Path) -> Generator[None, None, None]:
    """Turns an OSError into a `StoreError` that names the folder and a remedy."""
    try:
        yield
    except OSError as error:
        raise as_store_error(error, root) from error


def is_full(error: BaseException) -> bool:
    """Whether the error says that the disk or the quota is full, whichever library raised it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_SPACE
    return any(os.strerror(number) in str(error) for number in NO_SPACE)


def is_about_store(error: OSError, root: Path) -> bool:
    """Whether an OSError concerns this store: no space left, or one of the store's files."""
    if is_full(error):
        return True
    names = (error.filename, error.filename2)
    return any(isinstance(name, str) and Path(name).is_relative_to(root) for name in names)


def as_store_error(error: OSError, root: Path) -> StoreError:
    """The `StoreError` for an OSError that concerns this store."""
    if is_full(error):
        return StoreError(
            f"No space left for '{root}'. Free some, or choose another disk with --store; "
            "finished work is kept and a new run resumes from it."
        )
    return StoreError(
        f"Cannot write to '{root}': {error.strerror or error}. Choose a folder you may write to."
    )


def acquire(descriptor: int, on_wait: Callable[[], None]) -> None:
    """Locks the open file, calling `on_wait` repeatedly while another process holds the lock."""
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        on_wait()
        time.sleep(0.2)


def fsync_tree(folder: Path) -> None:
    """Calls fsync on every file and folder in `folder`, so that they survive a power cut."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
