"""Models on a Hugging Face hub, or in a folder that stands for one.

Two files of a repository are read, a card as JSON and weights as safetensors, under fixed names;
nothing else in it is downloaded.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast, runtime_checkable

from notbugs.core.errors import DataError, NotbugsError, bad_value
from notbugs.core.packages import optional
from notbugs.data.writing import write_errors
from notbugs.models.weights import MODEL
from notbugs.zoo.card import CARD, LARGEST, PAGE
from notbugs.zoo.evaluation import sha256_of
from notbugs.zoo.index import Entry

READ = {CARD: LARGEST, MODEL: 4_000_000_000}
"""The files that are read, and the most bytes each may have."""
README = "README.md"
"""What a hub shows of a repository: the card as Markdown."""
FOLDER = "file:"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class StoredFile:
    """A file of a repository: its path there, and its size in bytes."""

    path: str
    size: int


@runtime_checkable
class Hub(Protocol):
    """The part of `huggingface_hub.HfApi` that is used, or a folder with the same methods."""

    def create_repo(self, repo_id: str, *, exist_ok: bool) -> object:
        """Makes a repository unless it is there."""
        ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
        """Puts the files of a folder into a repository."""
        ...

    def get_paths_info(
        self, repo_id: str, paths: list[str], *, revision: str | None
    ) -> Iterable[Any]:
        """Those of the files that are there, with `path` and `size`, as `StoredFile`."""
        ...

    def snapshot_download(
        self, repo_id: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        """A folder with the files of those names."""
        ...


@dataclass(frozen=True)
class FolderHub:
    """A folder that stands for a hub: a repository is `root`/OWNER/REPO; there are no revisions."""

    root: Path

    def create_repo(self, repo_id: str, *, exist_ok: bool) -> None:
        folder = self.root / repo_id
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        with write_errors(self.root / repo_id):
            shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def get_paths_info(
        self, repo_id: str, paths: list[str], *, revision: str | None
    ) -> Iterable[StoredFile]:
        files = {name: self.root / repo_id / name for name in paths}
        return [StoredFile(name, f.stat().st_size) for name, f in files.items() if f.is_file()]

    def snapshot_download(
        self, repo_id: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        return str(self.root / repo_id)


@dataclass(frozen=True)
class Address:
    """A repository, "OWNER/REPO", and its revision (None: the newest)."""

    repo: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address written OWNER/REPO or OWNER/REPO@REVISION.

        **Raises** ValueError for anything else, such as an absolute path or one with "..".
        """
        repo, at, revision = text.partition("@")
        parts = repo.split("/")
        good = len(parts) == 2 and all(map(_REPO.fullmatch, parts)) and len(repo) <= 96
        if not good or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
            remedy = "For example hub:somebody/digits-cnn@v1."
            raise bad_value("address", "be written OWNER/REPO[@REVISION]", f"'{text}'", remedy)
        return cls(repo, revision or None)


def hub_of(text: str) -> tuple[Hub, Address]:
    """The hub and the repository of an address: OWNER/REPO[@REVISION], or file:FOLDER/OWNER/REPO.

    **Raises** ValueError where it is malformed; NotbugsError where `huggingface_hub` is missing.
    """
    if not text.startswith(FOLDER):
        return _huggingface(), Address.parse(text)
    path = Path(re.sub("^/+", "/", text.removeprefix(FOLDER)))
    owner, repo = path.parent.name, path.name
    address = Address.parse(f"{owner}/{repo}")
    if address.revision is not None:
        raise bad_value("address", "be without a revision in a folder", f"'{text}'")
    return FolderHub(path.parent.parent), address


def push(entry: Entry, to: str, *, hub: Hub | None = None) -> None:
    """Puts a model's weights and card into a repository, which is made if need be.

    - `to`: OWNER/REPO, or file:FOLDER/OWNER/REPO
    - `hub`: a client of another kind, for OWNER/REPO

    **Raises** DataError where the files do not fit the card; ValueError for a malformed `to`;
    NotbugsError where the hub refuses, or `huggingface_hub` is missing.
    """
    check_files(entry)
    client, address = hub_of(to) if hub is None else (hub, Address.parse(to))
    if address.revision is not None:
        raise bad_value("to", "be without a revision", f"'{to}'")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for source, target in ((MODEL, MODEL), (CARD, CARD), (PAGE, README)):
            shutil.copyfile(entry.folder / source, folder / target)
        with _HubErrors(to):
            client.create_repo(address.repo, exist_ok=True)
            client.upload_folder(
                repo_id=address.repo, folder_path=name, commit_message=f"notbugs: {entry.name}"
            )


def fetch(text: str, *, hub: Hub | None = None) -> Entry:
    """The model of a repository, downloaded; its weights are checked against its card.

    - `text`: OWNER/REPO[@REVISION], or file:FOLDER/OWNER/REPO
    - `hub`: a client of another kind, for OWNER/REPO

    **Raises** DataError where a file is missing, too large or damaged, or the weights are not the
    card's; ValueError for a malformed address; NotbugsError where the hub does not answer, or
    `huggingface_hub` is missing.
    """
    client, address = hub_of(text) if hub is None else (hub, Address.parse(text))
    names = list(READ)
    with _HubErrors(text):
        files = client.get_paths_info(address.repo, names, revision=address.revision)
        sizes: dict[str, int] = {file.path: file.size for file in files}
    for name, most in READ.items():
        if name not in sizes:
            raise DataError(f"'{text}' holds no {name}: it is no model of notbugs zoo push.")
        if sizes[name] > most:
            raise DataError(f"{name} of '{text}' has {sizes[name]:,} bytes, more than {most:,}.")
    with _HubErrors(text):
        folder = client.snapshot_download(
            address.repo, revision=address.revision, allow_patterns=names
        )
    entry = Entry(Path(folder))
    check_files(entry)
    return entry


def check_files(entry: Entry) -> None:
    """Refuses weights that are not those of the card.

    **Raises** DataError.
    """
    card = entry.card
    if entry.weights.is_file() and entry.weights.stat().st_size > READ[MODEL]:
        raise DataError(f"'{entry.weights}' has more than {READ[MODEL]:,} bytes.")
    if sha256_of(entry.weights) != card.sha256:
        raise DataError(
            f"'{entry.weights}' is not the file that its card describes: the SHA-256 differs. "
            "Get it again, or make its card again: notbugs zoo add."
        )


class _HubErrors:
    """Turns errors of a client into a `NotbugsError` that names the address."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, NotbugsError):
            raise NotbugsError(
                f"The hub did not do as asked with '{self.text}': {error}. Check the address, the "
                "network, and whether you are logged in (hf auth login)."
            ) from error


def _huggingface() -> Hub:
    package = optional("huggingface_hub", extra="hub", use="A hub")
    return cast("Hub", package.HfApi())
