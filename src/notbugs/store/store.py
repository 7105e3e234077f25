"""Content-addressed results: resume instead of recompute."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.core.errors import StoreError
from notbugs.store.keys import canonical

MARKER = "notbugs-store.json"
META = "meta.json"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Entry:
    """A finished result: its folder and the facts noted beside it."""

    kind: str
    key: str
    path: Path
    meta: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """How long making it took."""
        return float(self.meta["seconds"])


class Store:
    """A folder of finished results, `KIND/KEY/`, and of unfinished ones, `partial/KIND/KEY/`.

    A result appears whole or not at all: it is made in its partial folder, which
    survives a kill so that a producer can leave checkpoints there, and renamed at the
    end. A lock for each key keeps two processes from making the same thing twice.
    """

    def __init__(self, root: Path) -> None:
        """Opens or creates the store at `root`.

        **Raises** StoreError when the folder holds something else or cannot be written.
        """
        self.root = root
        with _explained(root):
            _claim(root)

    def find(self, kind: str, key: str) -> Entry | None:
        """The finished result, or None. One with unreadable facts counts as absent."""
        path = self.root / kind / key
        try:
            meta = json.loads((path / META).read_text())
            return Entry(kind, key, path, {**meta, "seconds": float(meta["seconds"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def entries(self) -> Iterator[Entry]:
        """All finished results."""
        for meta in sorted(self.root.glob(f"*/*/{META}")):
            entry = self.find(meta.parent.parent.name, meta.parent.name)
            if entry is not None and entry.kind != "partial":
                yield entry

    @contextmanager
    def working(
        self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None
    ) -> Generator[Path, None, None]:
        """Holds the key's lock and gives its partial folder; `on_wait` is called while waiting."""
        work = self.root / "partial" / kind / key
        lock = self.root / "locks" / f"{kind}-{key}"
        with _explained(self.root):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("w")
        with handle:
            with _explained(self.root):
                _acquire(handle.fileno(), on_wait)
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
        meta = {
            "kind": kind,
            "key": key,
            "version": version,
            "config": canonical(config),
            "inputs": dict(inputs),
            "seconds": seconds,
            "machine": dict(machine),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        final = self.root / kind / key
        with _explained(self.root):
            final.parent.mkdir(parents=True, exist_ok=True)
            with (work / META).open("w") as file:
                json.dump(meta, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if final.exists():  # a damaged one: `find` did not accept it
                final.rename(self.root / "partial" / f"damaged-{key}-{secrets.token_hex(3)}")
            work.rename(final)
        entry = self.find(kind, key)
        if entry is None:
            raise StoreError(f"The result just written to '{final}' cannot be read back.")
        return entry


def _claim(root: Path) -> None:
    """Makes the folder a store, unless it is somebody else's."""
    if (root / MARKER).exists():
        probe = root / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
        return
    root.mkdir(parents=True, exist_ok=True)
    others = any(not entry.name.startswith(".") for entry in root.iterdir())
    if others and not (root / MARKER).exists():  # another process may just have claimed it
        raise StoreError(
            f"'{root}' is not empty and not a notbugs store. Choose an empty folder, "
            "so that nothing of yours is touched."
        )
    part = root / f".{MARKER}.{secrets.token_hex(4)}"
    part.write_text(json.dumps({"notbugs-store": 1}))
    part.replace(root / MARKER)


@contextmanager
def _explained(root: Path) -> Generator[None, None, None]:
    """Operating-system errors as a `StoreError` that names the folder and a remedy."""
    try:
        yield
    except OSError as error:
        raise explained(error, root) from error


def concerns(error: OSError, root: Path) -> bool:
    """Whether an operating-system error is about this store: no space, or a file of its own."""
    if error.errno in _NO_SPACE:
        return True
    names = (error.filename, error.filename2)
    return any(isinstance(name, str) and Path(name).is_relative_to(root) for name in names)


def explained(error: OSError, root: Path) -> StoreError:
    """The `StoreError` that an operating-system error on this store amounts to."""
    if error.errno in _NO_SPACE:
        return StoreError(
            f"No space left for '{root}'. Free some, or choose another disk with --store; "
            "finished work is kept and a new run goes on from it."
        )
    return StoreError(
        f"Cannot write to '{root}': {error.strerror or error}. Choose a folder you may write to."
    )


def _acquire(descriptor: int, on_wait: Callable[[], None]) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        on_wait()
        time.sleep(0.2)
