"""One's own images: a folder with one subfolder for each class."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.data.dataset import ImageData
from notbugs.data.pictures import decoded
from notbugs.data.sources.source import Source, published, read_note

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def load_folder(folder: Path | str) -> Source:
    """The images in `folder`, one subfolder a class; classes and files sorted by name.

    All images must have one size and one number of channels (grey 1, RGB 3, RGBA 4). A
    folder that holds just `train` and `test`, each with the same class folders, has an
    official test part. Hidden files, and files that are not images by their name, are
    passed over.

    Raises:
        DataError: no or one class folder, an empty one, mixed sizes or channels, a file
            that is no sound image; the message names it.
    """
    folder = Path(folder)
    folder = folder.expanduser()
    name = f"folder:{folder}"
    if not folder.is_dir():
        raise DataError(f"No folder '{folder}'. Check the path after 'folder:'.")
    note = read_note(folder)
    parts = _folders(folder)
    # Two classes that happen to be called "test" and "train" hold images, not folders.
    if [path.name for path in parts] != ["test", "train"] or not all(map(_folders, parts)):
        return Source(name, _part(folder, name, "all", note), None, note)
    train, test = (_part(folder / part, name, part, note) for part in ("train", "test"))
    if train.class_names != test.class_names or train.shape != test.shape:
        raise DataError(
            f"'{folder}/train' and '{folder}/test' differ: classes {', '.join(train.class_names)} "
            f"of shape {train.shape} against {', '.join(test.class_names)} of shape {test.shape}. "
            "Give both the same class folders and one image size."
        )
    return Source(name, train, test, note)


def _part(folder: Path, name: str, part: str, note: str) -> ImageData:
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"'{folder}' has no class folders. Put the images into one subfolder for each class."
        )
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has one class only ('{classes[0].name}'). A classifier needs two or more."
        )
    files = [_images(path) for path in classes]
    for path, own in zip(classes, files, strict=True):
        if not own:
            raise DataError(
                f"The class folder '{path}' is empty: no image ({', '.join(sorted(SUFFIXES))}) "
                "is in it. Add images or remove the folder."
            )
    images, digest = _read_all([path for own in files for path in own], folder)
    labels = torch.repeat_interleave(torch.tensor([len(own) for own in files]))
    names = [path.name for path in classes]
    return published(
        images,
        labels,
        names,
        name=name,
        part=part,
        files={f"{len(images)} images": digest},
        note=note,
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    def wanted(path: Path) -> bool:
        hidden = path.name.startswith(".")
        return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()

    return sorted(filter(wanted, folder.iterdir()))


def _read_all(paths: Sequence[Path], folder: Path) -> tuple[Tensor, str]:
    """All images, uint8 [n, c, h, w], and the SHA-256 over their names and bytes."""
    digest = hashlib.sha256()
    images: Tensor | None = None
    for i, (path, content) in enumerate(_contents(paths)):
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
        image = decoded(path, content)
        if images is None:
            images = torch.empty((len(paths), *image.shape), dtype=torch.uint8)
        if image.shape != images.shape[1:]:
            raise DataError(
                f"The images have mixed sizes: '{paths[0]}' is {_size(images[0])}, '{path}' is "
                f"{_size(image)}. Bring all to one size and colour mode."
            )
        images[i] = image
    if images is None:
        raise DataError(f"'{folder}' holds no images.")
    return images, digest.hexdigest()


def _contents(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        try:
            yield path, path.read_bytes()
        except OSError as error:
            raise DataError(f"Cannot read '{path}': {error.strerror}.") from error


def _size(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{width} by {height} with {channels} channel{'s' if channels > 1 else ''}"
