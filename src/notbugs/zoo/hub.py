"""Models on a Hugging Face hub, or in a folder that stands for one.

Two files of a repository are read, a card as JSON and weights as safetensors, under fixed names;
nothing else in it is downloaded.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast, runtime_checkable

from notbugs.core.errors import DataError, NotbugsError, StoreError, bad_value
from notbugs.core.packages import optional
from notbugs.data.writing import write_errors
from notbugs.models.weights import MODEL, read_metadata
from notbugs.zoo.card import CARD, LARGEST, page_of
from notbugs.zoo.evaluation import sha256_of
from notbugs.zoo.index import Entry

READ = {CARD: LARGEST, MODEL: 4_000_000_000}
"""The files that are read, and the most bytes each may have."""
README = "README.md"
"""What a hub shows of a repository: the card as Markdown."""
FOLDER = "file:"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_PATH = re.compile(r"(^|[\s'\"=:,(])(/[^\s/]|~[^\s/]*/|[A-Za-z]:[\\/][^/]|\\\\)")
"""An absolute path in a text, which an address of the web is not."""
SHOWN = 3
"""Paths that a message names."""
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class StoredFile:
    """A file of a repository: its path there, and its size in bytes."""

    rfilename: str
    size: int


@dataclass(frozen=True)
class Stored:
    """A repository at one revision: the commit, and its files."""

    sha: str | None
    siblings: Sequence[StoredFile]


@runtime_checkable
class Hub(Protocol):
    """The part of `huggingface_hub.HfApi` that is used, or a folder with the same methods."""

    def create_repo(self, repo_id: str, *, exist_ok: bool, private: bool) -> object:
        """Makes a repository unless it is there."""
        ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
        """Puts the files of a folder into a repository."""
        ...

    def repo_info(self, repo_id: str, *, revision: str | None, files_metadata: bool) -> Any:
        """The commit of a revision and its files, as `Stored`."""
        ...

    def snapshot_download(
        self,
        repo_id: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool,
    ) -> str:
        """A folder with the files of those names; of what was downloaded earlier alone."""
        ...


@dataclass(frozen=True)
class FolderHub:
    """A folder that stands for a hub: a repository is `root`/OWNER/REPO; there are no revisions."""

    root: Path

    def create_repo(self, repo_id: str, *, exist_ok: bool, private: bool) -> None:
        folder = self.root / repo_id
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        folder = self.root / repo_id
        with write_errors(folder):
            if any(folder.iterdir()) and not (folder / CARD).is_file():
                raise StoreError(
                    f"'{folder}' holds files, and no {CARD}: it is no model of notbugs zoo push. "
                    "Choose another folder."
                )
            shutil.copytree(folder_path, folder, dirs_exist_ok=True)

    def repo_info(self, repo_id: str, *, revision: str | None, files_metadata: bool) -> Stored:
        paths = [self.root / repo_id / name for name in READ]
        return Stored(None, [StoredFile(p.name, p.stat().st_size) for p in paths if p.is_file()])

    def snapshot_download(
        self,
        repo_id: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool,
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
        repo, separator, revision = text.partition("@")
        parts = repo.split("/")
        good = len(parts) == 2 and all(map(_REPO.fullmatch, parts)) and len(repo) <= 96
        if not good or (separator and (not _REVISION.fullmatch(revision) or ".." in revision)):
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


def push(
    entry: Entry, to: str, *, public: bool = False, anyway: bool = False, hub: Hub | None = None
) -> None:
    """Puts a model's weights and card into a repository, which is made if need be.

    - `to`: OWNER/REPO, or file:FOLDER/OWNER/REPO
    - `public`: everybody can read a repository that is made; one that is there stays as it is
    - `anyway`: also where card or weights name paths of this machine
    - `hub`: a client of another kind, for OWNER/REPO

    **Raises** DataError where the files do not fit the card, or name paths of this machine;
    ValueError for a malformed `to`; StoreError for a folder with other files; NotbugsError where
    the hub refuses, or `huggingface_hub` is missing.
    """
    check_files(entry)
    if not anyway:
        _check_private(entry)
    client, address = hub_of(to) if hub is None else (hub, Address.parse(to))
    if address.revision is not None:
        raise bad_value("to", "be without a revision", f"'{to}'")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in (MODEL, CARD):
            shutil.copyfile(entry.folder / file, folder / file)
        (folder / README).write_text(page_of(entry.card), encoding="utf-8")
        with _HubErrors(to):
            client.create_repo(address.repo, exist_ok=True, private=not public)
            client.upload_folder(
                repo_id=address.repo, folder_path=name, commit_message=f"notbugs: {entry.name}"
            )


def fetch(text: str, *, hub: Hub | None = None) -> Entry:
    """The model of a repository, downloaded; its weights are checked against its card.

    - `text`: OWNER/REPO[@REVISION], or file:FOLDER/OWNER/REPO
    - `hub`: a client of another kind, for OWNER/REPO

    Without a network it is what was downloaded earlier.

    **Raises** DataError where a file is missing, too large or damaged, or the weights are not the
    card's; ValueError for a malformed address; NotbugsError where the hub does not answer, or
    `huggingface_hub` is missing.
    """
    client, address = hub_of(text) if hub is None else (hub, Address.parse(text))
    with _HubErrors(text):
        try:
            stored = client.repo_info(address.repo, revision=address.revision, files_metadata=True)
        except Exception as error:
            if getattr(error, "response", None) is not None:
                raise  # the hub answered
            try:
                return _checked(_downloaded(client, address, local=True))
            except NotbugsError:
                raise
            except Exception:
                raise error from None  # it was not downloaded earlier
    _check_sizes(text, {file.rfilename: file.size for file in stored.siblings})
    # What is downloaded is of the commit whose sizes were read.
    commit = replace(address, revision=stored.sha)
    with _HubErrors(text):
        return _checked(_downloaded(client, commit, local=False))


def _downloaded(client: Hub, address: Address, *, local: bool) -> Entry:
    folder = client.snapshot_download(
        address.repo,
        revision=address.revision,
        allow_patterns=list(READ),
        local_files_only=local,
    )
    return Entry(Path(folder))


def _checked(entry: Entry) -> Entry:
    check_files(entry)
    return entry


def _check_sizes(text: str, sizes: Mapping[str, int]) -> None:
    for name, most in READ.items():
        if name not in sizes:
            raise DataError(f"'{text}' holds no {name}: it is no model of notbugs zoo push.")
        if sizes[name] > most:
            raise DataError(f"{name} of '{text}' has {sizes[name]:,} bytes, more than {most:,}.")


def _check_private(entry: Entry) -> None:
    """Refuses a card or weights that name paths of this machine.

    **Raises** DataError.
    """
    paths = sorted(
        {text for text in _texts([asdict(entry.card), read_metadata(entry.weights)])
         if _PATH.search(text)}
    )  # fmt: skip
    if paths:
        raise DataError(
            f"The card or the weights of '{entry.name}' name paths of this machine, which would be "
            f"published: {', '.join(map(repr, paths[:SHOWN]))}. Train or save it again without "
            "them, or pass --anyway (anyway=True)."
        )


def _texts(value: object) -> Iterator[str]:
    """All texts in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(cast("Mapping[str, object]", value).values()))
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[object]", value):
            yield from _texts(one)


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
