"""Loads datasets by name."""

import os
from pathlib import Path

from notbugs.core.errors import bad_value, unknown_name
from notbugs.data.download import cache_folder
from notbugs.data.files import SUFFIX, load
from notbugs.data.planted import Planted
from notbugs.data.sources.cifar import CIFAR10, CIFAR100, find_cifar, load_cifar
from notbugs.data.sources.digits import load_digits
from notbugs.data.sources.folder import load_folder
from notbugs.data.sources.idx import FASHION, MNIST, find_idx, load_idx
from notbugs.data.sources.photographs import load_photographs
from notbugs.data.sources.source import TITLES, Source

FOLDER = "folder:"
SOURCES = (*TITLES, f"{FOLDER}PATH")
"""The names that `load_source` knows, besides files of sets."""
OWN = "folder"
"""The family of a user's own images."""


def family(name: str) -> str:
    """What settings of a set go by: its name, or for a user's own images "folder"."""
    return OWN if name.endswith(SUFFIX) else name.split(":")[0]


def load_source(
    name: str, data_dir: Path | str | None = None, *, download: bool = True, progress: bool = True
) -> Source:
    """The set called `name`, from local files where they are, else downloaded and verified.

    - `name`: "digits", "planted" and "photographs" (in ImageNet's classes, with scikit-image) need
      no files; "mnist", "fashion-mnist", "cifar10" and
      "cifar100" are read in their publishers' formats; "folder:PATH" is a folder with one
      subfolder of images for each class (see `sources.folder.load_folder`); a path that ends in
      .safetensors is a set that `data.save` wrote, as one without parts
    - `data_dir`: where the files are, or go; None: the environment's NOTBUGS_DATA, else the
      system's cache. Fashion-MNIST is also found in Debian's folder
    - `download`: allow the network; else missing files are an error
    - `progress`: show a bar while downloading

    **Raises** ValueError where the name is not known; the nearest one is suggested; DataError
    where files are missing, truncated, corrupt, or of another set; DownloadError where no
    mirror delivered, or the checksum is wrong.

    >>> source = load_source("digits")
    >>> source.train.shape, len(source.train)
    ((1, 8, 8), 1797)
    """
    if name.startswith(FOLDER):
        if name == FOLDER:
            raise bad_value("name", "name a folder after 'folder:'", "nothing", "Write its path.")
        return load_folder(Path(name.removeprefix(FOLDER)))
    if name.endswith(SUFFIX):
        return Source(name, load(name), None)
    if name == "digits":
        return load_digits()
    if name == "planted":
        return Source(name, Planted().make(), None)
    if name == "photographs":
        return load_photographs()
    for kind in (MNIST, FASHION):
        if name == kind.name:
            return load_idx(kind, _folder(data_dir), download=download, progress=progress)
    for kind in (CIFAR10, CIFAR100):
        if name == kind.name:
            return load_cifar(kind, _folder(data_dir), download=download, progress=progress)
    raise unknown_name("dataset", name, SOURCES)


def files_of(name: str, data_dir: Path | str | None = None) -> list[Path]:
    """The files that `load_source` reads of a published set, as far as they are there."""
    for kind in (MNIST, FASHION):
        if name == kind.name:
            return find_idx(kind, _folder(data_dir)) or []
    for kind in (CIFAR10, CIFAR100):
        folder = find_cifar(kind, _folder(data_dir)) if name == kind.name else None
        if folder is not None:
            return [path for path in folder.iterdir() if path.is_file()]
    return []


def _folder(data_dir: Path | str | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    named = os.environ.get("NOTBUGS_DATA")
    return Path(named).expanduser() if named else cache_folder()
