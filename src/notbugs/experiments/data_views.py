"""Other views of a dataset's split: at another size, some of its classes alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from notbugs.core.errors import DataError
from notbugs.data import ImageData, Splits
from notbugs.experiments.experiment import Work
from notbugs.experiments.shared import Data


def each_part(parts: Splits, change: Callable[[ImageData], ImageData]) -> Splits:
    """A change of all three parts."""
    return Splits(change(parts.train), change(parts.val), change(parts.test))


@dataclass(frozen=True)
class Resized(Data):
    """The same images resampled to `side` pixels a side, bilinear with antialiasing, 8 bits."""

    side: int = 28

    def splits(self, work: Work) -> Splits:
        return each_part(super().splits(work), lambda data: resized(data, self.side))


def resized(data: ImageData, side: int) -> ImageData:
    """A set's images resampled to `side` pixels a side, in 8 bits."""
    if data.shape[1:] == (side, side):
        return data
    x = F.interpolate(data.pixels(), (side, side), mode="bilinear", antialias=True)
    return replace(data, images=(255 * x.clamp(0, 1)).round().to(torch.uint8))


@dataclass(frozen=True)
class Part(Resized):
    """The images of some classes alone, as classes 0, 1, ..., resampled to `side` pixels a side.

    - `classes`: those classes; none: all
    - `detail`: the side to which images are shrunk first, and then enlarged again; 0: not
    """

    classes: tuple[int, ...] = ()
    detail: int = 0

    def splits(self, work: Work) -> Splits:
        return each_part(Data.splits(self, work), self._seen)

    def _seen(self, data: ImageData) -> ImageData:
        some = of_classes(data, self.classes) if self.classes else data
        return resized(resized(some, self.detail) if self.detail else some, self.side)


@dataclass(frozen=True)
class TwoClasses(Data):
    """The images of two classes alone, as classes 0 and 1."""

    pair: tuple[int, int] = (3, 7)

    def splits(self, work: Work) -> Splits:
        return each_part(super().splits(work), lambda data: of_classes(data, self.pair))


def of_classes(data: ImageData, classes: Sequence[int]) -> ImageData:
    """The images of some classes, as classes 0, 1, ... in that order.

    **Raises** DataError where there is no such image.
    """
    chosen = torch.tensor(classes)
    matches = data.labels[:, None] == chosen
    if not bool(matches.any()):
        raise DataError(f"No image is of the classes {tuple(classes)}. Use more images.")
    some, names = data.select(matches.any(dim=1)), tuple(data.class_names[c] for c in classes)
    labels = matches[matches.any(dim=1)].long().argmax(dim=1)
    return replace(some, labels=labels, class_names=names)
