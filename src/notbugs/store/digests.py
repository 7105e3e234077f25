"""Digests of the files in a folder, by which damage to a stored result is noticed."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

SETTLED = 1e8
"""Nanoseconds after which another change to a file would show in its times."""


class Digests:
    """SHA-256 of files; each is read once as long as its times and size stay as they are."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of_folder(self, folder: Path) -> dict[str, str]:
        """The digest of every file in the folder and below it, by its path there."""
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): self.of(path) for path in files}

    def differing(self, folder: Path, digests: Mapping[str, str]) -> str | None:
        """What is wrong with the first file that is not what its digest says; None: all are."""
        for name, digest in digests.items():
            if not (folder / name).is_file():
                return f"'{name}' is missing"
            if self.of(folder / name) != digest:
                return f"'{name}' was changed after it was written"
        return None

    def of(self, path: Path) -> str:
        """The digest of a file, in hex."""
        known = path.stat()
        state = (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)
        if state in self._known:
            return self._known[state]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - max(state[3:]) > SETTLED:
            self._known[state] = digest
        return digest
