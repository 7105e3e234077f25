"""Downloads with checksums, trying mirrors in turn."""

import gzip
import logging
import os
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from notbugs.core.errors import DataError, DownloadError, bad_value
from notbugs.data.writing import write_errors

TIMEOUT = 30.0
"""Seconds without an answer after which the next mirror is tried."""


def cache_folder() -> Path:
    """The default folder for downloads: NOTBUGS_CACHE, else the system's cache."""
    named = os.environ.get("NOTBUGS_CACHE")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("notbugs"))


def fetch(urls: Sequence[str], *, checksum: str, folder: Path, progress: bool = True) -> Path:
    """Downloads a file from the first of `urls` that delivers it; returns its path in `folder`.

    A file that is there already with the right checksum is not downloaded again; a damaged
    one is replaced. The file takes its name only when complete and verified.

    - `urls`: the same file on one or more mirrors; its name is the last part of the first
    - `checksum`: written "md5:..." or "sha256:..."
    - `folder`: created if need be
    - `progress`: show a bar

    **Raises** DownloadError where no mirror delivered the file with that checksum; StoreError
    where the disk is full or `folder` cannot be written.
    """
    if not urls:
        raise bad_value("urls", "name at least one address", "none")
    name, reasons = urls[0].rsplit("/", 1)[-1], list[str]()
    for url in urls:
        reason = _download_from(url, name, checksum, folder, progress)
        if reason is None:
            return folder / name
        reasons.append(f"{url}: {reason}")
    raise DownloadError(
        f"Could not download {name} ({'; '.join(reasons)}). Get '{name}' another way "
        f"and put it into '{folder}', or set NOTBUGS_DATA to a folder that holds the set."
    )


def unpack(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Extracts only the named members of a tar archive into `folder`.

    A member "top/name" becomes `folder / "name"`. The files appear only when all are there.

    **Raises** DataError where the archive is corrupt or lacks a member; StoreError where the
    disk is full or `folder` cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _extract(archive, members, part)
            for member in members:
                (part / member).replace(folder / Path(member).name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _extract(archive: Path, members: Sequence[str], into: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            wanted = [tar.getmember(name) for name in members]
            if not all(member.isfile() for member in wanted):
                raise DataError(f"'{archive}' holds links where files are expected.")
            tar.extractall(into, members=wanted, filter="data")
    except KeyError as error:
        raise DataError(f"'{archive}' is not the expected archive: {error.args[0]}.") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"'{archive}' is truncated or corrupt. Delete it and try again.") from error


def _download_from(url: str, name: str, checksum: str, folder: Path, progress: bool) -> str | None:
    """Downloads from one mirror; returns the reason if it failed, else None."""
    import pooch
    from requests.exceptions import RequestException

    try:
        with write_errors(folder / name), _quiet(), _Bar(name, shown=progress) as bar:
            try:
                loader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)  # pyright: ignore[reportArgumentType]
                pooch.retrieve(url, checksum, fname=name, path=folder, downloader=loader)  # pyright: ignore[reportArgumentType]
            except RequestException as error:  # an OSError too, but the network's
                return _reason(error)
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise
        return f"what arrived does not have the checksum {checksum}"
    return None


def _reason(error: Exception) -> str:
    """The reason in a few words: the HTTP status, or the innermost cause."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Silences pooch's own messages while the block runs."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Bar:
    """A rich progress bar with pooch's interface (`total`, `update`, `reset`, `close`)."""

    def __init__(self, name: str, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), disable=not shown)
        self._task = self._progress.add_task(f"Downloading {name}", total=None)
        self._total: int | None = None

    @property
    def total(self) -> int | None:
        """The bytes expected; None or 0 when the server does not say."""
        return self._total

    @total.setter
    def total(self, value: int | None) -> None:
        self._total = value
        self._progress.update(self._task, total=value or None)

    def update(self, count: int) -> None:
        """Advances by `count` bytes."""
        self._progress.update(self._task, advance=count)

    def reset(self) -> None:
        """Goes back to the beginning."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Does nothing: the bar closes with its block."""

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
