"""Digests of the files in a folder, to detect damage to a stored result."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

TIMESTAMP_RESOLUTION = 1e8
"""Nanoseconds after which another change to a file is visible in its timestamps."""


class Digests:
    """SHA-256 of files; a file is read again only when its timestamps or size have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of_folder(self, folder: Path) -> dict[str, str]:
        """The digest of every file in the folder, recursively, keyed by relative path."""
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): self.of(path) for path in files}

    def first_mismatch(self, folder: Path, digests: Mapping[str, str]) -> str | None:
        """Describes the first file whose digest differs; None where all match."""
        for name, digest in digests.items():
            if not (folder / name).is_file():
                return f"'{name}' is missing"
            if self.of(folder / name) != digest:
                return f"'{name}' was changed after it was written"
        return None

    def of(self, path: Path) -> str:
        """The digest of a file, in hex."""
        stat = path.stat()
        fingerprint = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if fingerprint in self._known:
            return self._known[fingerprint]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - max(fingerprint[3:]) > TIMESTAMP_RESOLUTION:
            self._known[fingerprint] = digest
        return digest
