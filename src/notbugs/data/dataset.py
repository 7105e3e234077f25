"""`ImageData`: labelled images with their provenance, the dataset type of all packages."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import mapped
from notbugs.core.digests import tensor_bytes
from notbugs.core.errors import bad_type, bad_value, check_dense, check_images, check_labels
from notbugs.core.limits import CLASSES, NAME

JSON: TypeAlias = bool | int | float | str | Sequence[Any] | Mapping[str, Any] | None
"""What JSON can hold."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Images, their labels and their provenance, validated on construction.

    - `images` [n, c, h, w]: uint8 (value / 255 is meant) or float32 in [0, 1]
    - `labels` [n]: int64, class indices in 0..len(class_names)-1
    - `class_names`: one unique name per class; at most 100,000, each of at most 1,000 characters
    - `name`: the set's name: "digits", "cifar10", "D_det"
    - `provenance`: how the images were made (recipe, source digest, norm, eps, steps, seed),
      JSON-serialisable; a copy is kept, in which tuples become lists
    - `columns`: further tensors with one entry per row: "true_labels", "source_rows", "success",
      "distance"

    **Raises** TypeError for a tensor of another dtype; ValueError for another shape, no image,
    NaN, values outside [0, 1], labels out of range, lengths that differ, or a provenance that
    is not JSON-serialisable.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str
    provenance: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    columns: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:

        _check_pixels(self.images)
        _check_names(self.class_names)
        check_labels(self.labels, rows=len(self), classes=self.classes, argument="labels")
        if self.labels.dtype != torch.int64:
            raise bad_type(
                "labels", "int64", self.labels, f"Its dtype is {self.labels.dtype}; use .long()."
            )
        for name, column in self.columns.items():
            _check_tensor(column, f"columns['{name}']")
            if column.ndim == 0 or len(column) != len(self):
                raise bad_value(
                    f"columns['{name}']",
                    f"have one entry for each of the {len(self)} images",
                    f"shape {tuple(column.shape)}",
                )
        object.__setattr__(self, "provenance", _plain(self.provenance))
        object.__setattr__(self, "columns", dict(self.columns))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        kind = str(self.images.dtype).removeprefix("torch.")
        size = "x".join(map(str, self.shape))
        columns = f", columns: {', '.join(self.columns)}" if self.columns else ""
        return (
            f"ImageData({self.name!r}, n={len(self)}, {size} {kind}, "
            f"{self.classes} classes{columns})"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.shape
        return (channels, height, width)

    @property
    def classes(self) -> int:
        """The number of classes, including classes without images."""
        return len(self.class_names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of images, labels and class names, with dtype and shape.

        Name, provenance and columns are not included: equal data has equal digests.
        """
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor_bytes(tensor))
        digest.update(json.dumps(self.class_names).encode())
        return digest.hexdigest()

    def pixels(self, index: Tensor | slice | None = None) -> Float[Tensor, "m c h w"]:
        """The images (or the rows `index` of them) as float32 in [0, 1], [m, c, h, w]."""
        return as_pixels(self.images if index is None else self.images[_on(index, self.images)])

    def select(self, index: Tensor | slice | Sequence[int]) -> "ImageData":
        """The rows `index` (integers, a mask or a slice), columns included.

        A slice shares the images' memory; many other rows are copied into a temporary file.

        **Raises** ValueError where no row is left.
        """
        rows = _on(index, self.images)
        return replace(
            self,
            images=self.images[rows] if isinstance(rows, slice) else mapped.take(self.images, rows),
            labels=self.labels[_on(index, self.labels)],
            columns={name: c[_on(index, c)] for name, c in self.columns.items()},
        )

    def with_labels(self, labels: Tensor) -> "ImageData":
        """The same images under other labels, int64 [n]."""
        return replace(self, labels=labels)

    def to(self, device: torch.device | str) -> "ImageData":
        """The same set on another device."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            columns={name: column.to(device) for name, column in self.columns.items()},
        )


def as_pixels(images: Tensor) -> Float[Tensor, "n c h w"]:
    """uint8 images as float32 in [0, 1] (value / 255); float images as they are."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images


def _on(index: Tensor | slice | Sequence[int], like: Tensor) -> Tensor | slice:
    if isinstance(index, slice):
        return index
    rows = index if len(index) else torch.zeros(0, dtype=torch.int64)  # an empty list has no dtype
    return torch.as_tensor(rows, device=like.device)


def _check_tensor(tensor: Tensor, argument: str) -> None:
    if not isinstance(tensor, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type(argument, "a torch.Tensor", tensor, "Use torch.as_tensor(array).")
    check_dense(tensor, argument)


def _check_pixels(images: Tensor) -> None:
    _check_tensor(images, "images")
    if images.dtype not in (torch.uint8, torch.float32):
        raise bad_type(
            "images",
            "uint8 (0..255) or float32 in [0, 1]",
            images,
            f"Its dtype is {images.dtype}; use .float() or .to(torch.uint8).",
        )
    # uint8 is in range by itself; only its shape can be wrong.
    if images.dtype == torch.float32:
        check_images(images, "images")
    elif images.ndim != 4 or 0 in images.shape:
        check_images(torch.empty(images.shape), "images")


def _check_names(names: tuple[str, ...]) -> None:
    if isinstance(names, str) or not all(isinstance(n, str) for n in names):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type("class_names", "a tuple of names, each a str", names, "Use map(str, ...).")
    if not 0 < len(names) <= CLASSES:
        expected = f"be at least one name and at most {CLASSES:,}"
        raise bad_value("class_names", expected, f"{len(names):,}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise bad_value("class_names", "be all different", f"'{twice[:NAME]}' twice")
    longest = max(names, key=len)
    if len(longest) > NAME:
        raise bad_value(
            "class_names",
            f"have at most {NAME:,} characters each",
            f"{len(longest):,} in '{longest[:20]}…'",
            "Shorten it.",
        )


def _plain(provenance: Mapping[str, JSON]) -> dict[str, JSON]:
    try:
        return json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise bad_value(
            "provenance",
            "hold only what JSON can: text, finite numbers, lists, mappings",
            f"'{error}'",
            "Convert tensors with .tolist() and paths with str().",
        ) from error
