"""Content-addressed results: resume instead of recompute."""

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.core.errors import StoreError
from notbugs.store.disk import acquire, claim, disk_errors, settle
from notbugs.store.keys import canonical

META = "meta.json"


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
        with disk_errors(root):
            claim(root)

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
        with disk_errors(self.root):
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
        with disk_errors(self.root):
            final.parent.mkdir(parents=True, exist_ok=True)
            (work / META).write_text(json.dumps(meta, indent=1))
            settle(work)
            if final.exists():  # a damaged one: `find` did not accept it
                final.rename(self.root / "partial" / f"damaged-{key}-{secrets.token_hex(3)}")
            work.rename(final)
        entry = self.find(kind, key)
        if entry is None:
            raise StoreError(f"The result just written to '{final}' cannot be read back.")
        return entry
