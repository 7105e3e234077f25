"""`Source`, the result of dataset loaders, and functions that loaders share."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.data.dataset import JSON, ImageData

T = TypeVar("T")

TITLES = {
    "digits": "Digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "planted": "Planted",
    "photographs": "Photographs",
}


@dataclass(frozen=True)
class Source:
    """A dataset as published: its images, the official test images if any, and its variant.

    `val`: the official validation images, if the publisher held out some besides the test
    images. `note`: the beginning of PROVENANCE.txt beside the files, if there is one; it marks
    files that are not the publisher's, and every table repeats it.
    """

    name: str
    train: ImageData
    test: ImageData | None
    note: str = ""
    val: ImageData | None = None

    @property
    def title(self) -> str:
        """The name for tables and reports: the note if there is one."""
        file = Path(self.name.removeprefix("folder:")).name.removesuffix(".safetensors")
        return self.note or TITLES.get(self.name, file)


def read_note(folder: Path) -> str:
    """The first words (up to a colon or the line's end) of PROVENANCE.txt, or nothing."""
    path = folder / "PROVENANCE.txt"
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[0].split(":")[0].strip()[:80] if lines else ""


def with_file(path: Path, parse: Callable[[bytes], T]) -> tuple[T, str]:
    """The result of `parse` on a file's bytes, and the SHA-256 of the bytes.

    **Raises** DataError where the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}.") from error
    return parse(content), hashlib.sha256(content).hexdigest()


def published(
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    name: str,
    part: str,
    files: Mapping[str, str],
    note: str = "",
    columns: Mapping[str, Tensor] | None = None,
) -> ImageData:
    """One part of a published set; `files` maps file names to SHA-256 digests.

    **Raises** DataError where labels and images do not match.
    """
    provenance: dict[str, JSON] = {"recipe": "published", "source": name, "part": part}
    provenance |= {"files": dict(files)} | ({"note": note} if note else {})
    try:
        return ImageData(images, labels, tuple(class_names), name, provenance, columns or {})
    except ValueError as error:
        raise DataError(
            f"The files of '{name}' are damaged or do not belong together "
            f"({', '.join(files)}): {error} Replace them."
        ) from error
