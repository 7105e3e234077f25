"""Other views of a dataset's split: at another size, two of its classes alone."""

from collections.abc import Callable
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
        return each_part(super().splits(work), self._resized)

    def _resized(self, data: ImageData) -> ImageData:
        if data.shape[1:] == (self.side, self.side):
            return data
        size = self.side, self.side
        x = F.interpolate(data.pixels(), size, mode="bilinear", antialias=True)
        return replace(data, images=(255 * x.clamp(0, 1)).round().to(torch.uint8))


@dataclass(frozen=True)
class TwoClasses(Data):
    """The images of two classes alone, as classes 0 and 1."""

    pair: tuple[int, int] = (3, 7)

    def splits(self, work: Work) -> Splits:
        return each_part(super().splits(work), self._of_pair)

    def _of_pair(self, data: ImageData) -> ImageData:
        rows = (data.labels == self.pair[0]) | (data.labels == self.pair[1])
        if not bool(rows.any()):
            raise DataError(f"No image is of the classes {self.pair}. Use more images.")
        some = data.select(rows)
        names = tuple(data.class_names[c] for c in self.pair)
        return replace(some, labels=(some.labels == self.pair[1]).long(), class_names=names)
