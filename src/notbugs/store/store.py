"""Content-addressed results: resume instead of recompute."""

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from notbugs.core.digests import verify_digest, with_digest
from notbugs.core.errors import StoreError
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json, to_json
from notbugs.store.digests import Digests
from notbugs.store.disk import acquire, disk_errors, fsync_tree, mark_as_store, restore_marker
from notbugs.store.keys import canonical

META = "meta.json"


class Meta(TypedDict):
    """The metadata of a result, as far as it is read again."""

    kind: str
    key: str
    files: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Entry:
    """A finished result: its folder and its metadata."""

    kind: str
    key: str
    path: Path
    meta: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """How long computing it took."""
        return float(self.meta["seconds"])


class Store:
    """A folder of finished results, `KIND/KEY/`, and of unfinished ones, `partial/KIND/KEY/`.

    Results appear atomically: a result is written to its partial folder, which survives a
    kill so that a producer can leave checkpoints there, and is renamed at the end. A lock
    for each key keeps two processes from computing the same result.

    A result's metadata holds its kind, its key, the digests of its files and a digest of
    itself. A result that has changed since it was stored counts as absent.
    """

    def __init__(self, root: Path) -> None:
        """Opens or creates the store at `root`.

        **Raises** StoreError when the folder holds something else or cannot be written.
        """
        self.root, self._digests = root, Digests()
        with disk_errors(root):
            mark_as_store(root)

    def find(self, kind: str, key: str) -> Entry | None:
        """The finished result; None where it is absent or damaged."""
        result = self._checked(kind, key)
        return result if isinstance(result, Entry) else None

    def fault(self, kind: str, key: str) -> str | None:
        """What is wrong with a stored result, as text; None where it is intact or absent."""
        result = self._checked(kind, key)
        return result if isinstance(result, str) else None

    def get(self, kind: str, key: str) -> Entry:
        """The finished result.

        **Raises** StoreError where it is absent.
        """
        entry = self.find(kind, key)
        if entry is None:
            raise StoreError(
                f"A result vanished from the store, or was damaged there ({kind}/{key}). Run "
                "again, and it is made again."
            )
        return entry

    def _checked(self, kind: str, key: str) -> Entry | str | None:
        path = self.root / kind / key
        if not path.exists():
            return None
        try:
            meta = fit(Meta, verify_digest(parse_json((path / META).read_bytes())))
            if (meta["kind"], meta["key"]) != (kind, key):
                return f"it belongs to {meta['kind']}/{meta['key']}"
            return self._digests.first_mismatch(path, meta["files"]) or Entry(kind, key, path, meta)
        except FileNotFoundError:
            return f"'{META}' is missing"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        except ValueError as error:
            return f"'{META}' is damaged: {error}"

    def entries(self) -> Iterator[Entry]:
        """All finished results."""
        for meta in sorted(self.root.glob(f"*/*/{META}")):
            entry = self.find(meta.parent.parent.name, meta.parent.name)
            if entry is not None:
                yield entry

    @contextmanager
    def working(
        self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None
    ) -> Generator[Path, None, None]:
        """Locks the key and yields its partial folder; `on_wait` is called while waiting."""
        work = self.root / "partial" / kind / key
        lock = self.root / "locks" / f"{kind}-{key}"
        with disk_errors(self.root):
            restore_marker(self.root)
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("w")
        with handle:
            with disk_errors(self.root):
                acquire(handle.fileno(), on_wait)
                work.mkdir(parents=True, exist_ok=True)
            yield work

    def complete(
        self,
        kind: str,
        key: str,
        work: Path,
        *,
        config: Mapping[str, Any],
        version: int,
        inputs: Mapping[str, str],
        seconds: float,
        machine: Mapping[str, str],
    ) -> Entry:
        """Turns a partial folder into a finished result, atomically."""
        with disk_errors(self.root):
            restore_marker(self.root)
            _remove_leftovers(work)
            files = self._digests.of_folder(work)
        meta = {
            "kind": kind,
            "key": key,
            "version": version,
            "config": canonical(config),
            "inputs": dict(inputs),
            "seconds": seconds,
            "machine": dict(machine),
            "files": files,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        final = self.root / kind / key
        with disk_errors(self.root):
            final.parent.mkdir(parents=True, exist_ok=True)
            (work / META).write_text(to_json(with_digest(meta), indent=1))
            fsync_tree(work)
            if final.exists():  # a damaged one: `find` did not accept it
                final.rename(self.root / "partial" / f"damaged-{key}-{secrets.token_hex(3)}")
            work.rename(final)
        entry = self.find(kind, key)
        if entry is None:
            raise StoreError(f"The result just written to '{final}' cannot be read back.")
        return entry


def _remove_leftovers(work: Path) -> None:
    """Removes the half-written files, which are hidden, that killed runs left in a folder."""
    for path in [*work.rglob(".*"), work / META]:
        if path.is_file():
            path.unlink()
