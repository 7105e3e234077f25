"""The rows of each training batch: of the training images, and of an extra set at a share."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.limits import NAME
from notbugs.core.types import Images, Labels
from notbugs.data import DeviceData, ImageData, batches, streamed

SHARE = 0.7
"""The share of extra images in a batch, as in Wang et al. 2023 with 1M images for CIFAR-10."""


class TrainingRows:
    """Training images, and an extra set of which every batch holds a share.

    Row i of the extra set has the number len(data) + i, so that every row has a number, and with
    it a key, of its own.

    With an extra set, an epoch still has len(data) // batch_size batches: as many images are seen
    as the training images are, but only a part of those are training images. They are drawn anew
    in each epoch, without replacement. The extra images are gone through pass by pass, however
    many epochs a pass takes: none is seen twice before all have been seen once. Each batch
    depends on the seed, the epoch and its number in the epoch alone.

    The extra set stays where it is, as uint8 where it is uint8; its part of each batch is sent to
    the device.

    **Source**: Gowal et al. 2021 (arXiv 2110.09468) and Wang et al. 2023 (arXiv 2302.04638), with
    epochs of 50,000 images for CIFAR.
    **Differs from the papers**: their code draws extra images with replacement.
    """

    def __init__(
        self,
        data: ImageData,
        device: torch.device,
        *,
        batch_size: int,
        seed: int,
        extra: ImageData | None = None,
        share: float = SHARE,
    ) -> None:
        self._data, self._device, self._size = DeviceData(data, device), device, batch_size
        self._extra, self._seed = extra, seed
        self._drawn = 0 if extra is None else extra_in(batch_size, share)
        self._orders: dict[int, Tensor] = {}
        self.originals = len(data)
        self.per_epoch = len(data) // batch_size

    def __len__(self) -> int:
        return self.originals + (0 if self._extra is None else len(self._extra))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """The rows of each batch of an epoch, int64 [batch_size]: training images come first."""
        size = self._size - self._drawn
        own = batches(self.originals, size, seed=self._seed, epoch=epoch, drop_last=True)
        if self._extra is None:
            return own
        first = epoch * self.per_epoch
        mixed = (torch.cat([i, self._extra_rows(step)]) for step, i in enumerate(own, first))
        return islice(mixed, self.per_epoch)

    def batch(self, index: Tensor) -> tuple[Images, Labels]:
        """The rows `index`, training images first: float32 images in [0, 1], and labels [m]."""
        if self._extra is None:
            return self._data.batch(index)
        x, y = self._data.batch(index[index < self.originals])
        more = index[index >= self.originals] - self.originals
        if not len(more):
            return x, y
        extra_x, extra_y = next(streamed(self._extra, [more], self._device))
        return torch.cat([x, extra_x]), torch.cat([y, extra_y])

    def _extra_rows(self, step: int) -> Tensor:
        """The extra rows of the batch of a step, counted over all epochs."""
        count = len(self) - self.originals
        places = torch.arange(step * self._drawn, (step + 1) * self._drawn)
        passes = range(int(places[0]) // count, int(places[-1]) // count + 1)
        rows = [self._order(one)[places[places // count == one] % count] for one in passes]
        return self.originals + torch.cat(rows)

    def _order(self, number: int) -> Tensor:
        """The order of the extra images in a pass; that of the pass before is kept too."""
        if number not in self._orders:
            count = len(self) - self.originals
            order = random.generator(self._seed, "extra order", number)
            kept = {one: rows for one, rows in self._orders.items() if one == number - 1}
            self._orders = kept | {number: torch.randperm(count, generator=order)}
        return self._orders[number]


def extra_in(batch_size: int, share: float) -> int:
    """How many rows of a batch are extra images: the share, rounded.

    **Raises** ValueError for a share outside (0, 1), and for one that leaves no row of either kind.
    """
    if not 0 < share < 1:
        remedy = "Without training images of your own, train on the extra set itself."
        raise bad_value("share", "lie between 0 and 1", share, remedy)
    count = round(share * batch_size)
    if not 0 < count < batch_size:
        raise bad_value(
            "share",
            f"leave at least one row of each kind in a batch of {batch_size}",
            share,
            "Use larger batches, or a share nearer to 0.5.",
        )
    return count


def check_extra(data: ImageData, extra: ImageData, share: float, batch_size: int) -> None:
    """Refuses an extra set of other images or classes, or of fewer images than a batch takes of it.

    Its classes have the names of the training images' in the same order, or no names but numbers
    (as in an archive that names none).
    """
    for what, ours, theirs in (
        ("images of shape", data.shape, extra.shape),
        ("classes, as many as the training images:", data.classes, extra.classes),
    ):
        if ours != theirs:
            remedy = "Resize its images, or name all classes (notbugs data import --names)."
            raise bad_value("extra", f"hold {what} {ours}", f"{theirs} in '{extra.name}'", remedy)
    numbers = tuple(map(str, range(data.classes)))
    if extra.class_names not in (data.class_names, numbers):
        pairs = zip(extra.class_names, data.class_names, strict=True)
        one, other = next(pair for pair in pairs if pair[0] != pair[1])
        raise bad_value(
            "extra",
            "have the classes of the training images in their order",
            f"'{one[:NAME]}' in the place of '{other[:NAME]}'",
            "Order its labels as theirs are, and name its classes so.",
        )
    count = extra_in(batch_size, share)
    if len(extra) < count:
        remedy = "Lower `share`, or use smaller batches."
        raise bad_value("extra", f"hold at least the {count} images of a batch", len(extra), remedy)
