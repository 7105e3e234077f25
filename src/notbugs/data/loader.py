"""Batches of rows, data augmentation, and transfer to a device."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.types import Images, Keys
from notbugs.data.dataset import ImageData, as_pixels

VALUES = 2**22
"""Pixel values of a batch on a CPU."""
Padding: TypeAlias = Literal["zero", "reflect"]


def batches(
    n: int, batch_size: int, *, seed: int, epoch: int, shuffle: bool = True, drop_last: bool = False
) -> Iterator[Tensor]:
    """The row indices of each batch of one epoch, int64 [batch_size] (the last may be shorter).

    The order depends on `seed` and `epoch` alone: any epoch can be started without the
    ones before it.

    **Raises** ValueError where `batch_size` is below 1 or above `n`.
    """
    check_count(batch_size, "batch_size")
    if batch_size > n:
        raise bad_value(
            "batch_size",
            f"not exceed the number of images, {n}",
            batch_size,
            f"Use a batch size of at most {n}, or more images.",
        )
    order = torch.arange(n)
    if shuffle:
        order = torch.randperm(n, generator=random.generator(seed, "order", epoch))
    end = n - n % batch_size if drop_last else n
    return iter(order[:end].split(batch_size))


@dataclass(frozen=True)
class Augment:
    """Random crops and flips with one random key per row; the default changes nothing.

    - `crop_padding`: pixels of padding on each side, out of which an image of the old size is
      cut at random; 0: no crop
    - `flip`: mirror left and right in half of the cases
    - `alternate`: mirror each image, at random, in every even or in every odd epoch, so that
      two epochs show both sides of it; needs `flip`. **Source**: Jordan 2024 (arXiv
      2404.00498), section 3.6
    - `padding`: "zero" (black) or "reflect"
    """

    crop_padding: int = 0
    flip: bool = False
    padding: Padding = "zero"
    alternate: bool = False

    def __post_init__(self) -> None:

        check_count(self.crop_padding, "crop_padding", 0)
        if self.padding not in ("zero", "reflect"):
            raise unknown_name("padding", self.padding, ("zero", "reflect"))
        if self.alternate and not self.flip:
            raise bad_value("alternate", "come with flip=True", self.alternate)

    def __call__(self, images: Images, keys: Keys, epoch: int) -> Images:
        """The images [n, c, h, w], augmented differently in each epoch.

        Row i depends only on its image, the epoch and `keys[i]`, which is the same in all epochs.

        **Raises** ValueError for reflection padding larger than the images.
        """
        if not (self.crop_padding or self.flip):
            return images
        n, _, height, width = images.shape
        own, keys = keys, random.fold(random.fold(keys, "epoch", epoch), "augment")
        down, across = self._offset(keys, "down"), self._offset(keys, "across")
        columns = torch.arange(width, device=images.device).expand(n, width)
        if self.flip:
            mirrored = random.scalar(random.fold(own if self.alternate else keys, "flip")) < 0.5
            if self.alternate and epoch % 2:
                mirrored = ~mirrored
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        rows = torch.arange(height, device=images.device) + down[:, None]
        columns = columns + across[:, None]
        which = torch.arange(n, device=images.device)[:, None, None]
        # This indexing puts the channels last; the consumer chooses the memory order.
        cut = self._padded(images)[which, :, rows[:, :, None], columns[:, None, :]]
        return cut.permute(0, 3, 1, 2)

    def _offset(self, keys: Keys, name: str) -> Tensor:
        """The offset of each row's crop in the padded image, [n]."""
        return random.integers(random.fold(keys, name), 2 * self.crop_padding + 1)

    def _padded(self, images: Images) -> Float[Tensor, "n c _ _"]:
        pad = self.crop_padding
        if not pad:
            return images
        if self.padding == "reflect" and pad >= min(images.shape[-2:]):
            raise bad_value(
                "crop_padding",
                "be below the image's height and width when reflecting",
                f"{pad} for {tuple(images.shape[1:])}",
                "Lower it or use padding='zero'.",
            )
        mode = "reflect" if self.padding == "reflect" else "constant"
        return F.pad(images, (pad, pad, pad, pad), mode=mode)


def rows_at_once(shape: Sequence[int], most: int, device: torch.device, passes: int = 1) -> int:
    """How many images of `shape` to compute with at a time: at most `most`, fewer of large ones.

    A batch holds 2**22 pixel values on a CPU (27 images of 224x224 in colour), where a backward
    pass of a common net then takes less than 1 GiB, and 16 times as many on a GPU.

    - `passes`: as many times more, for passes that keep no activations
    """
    values = passes * (VALUES if device.type == "cpu" else 16 * VALUES)
    return max(1, min(most, values // math.prod(shape)))


class DeviceData:
    """A dataset kept on one device; uint8 images are converted per batch."""

    def __init__(self, data: ImageData, device: torch.device | str) -> None:
        self.images = data.images.to(device)
        self.labels = data.labels.to(device)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> tuple[Float[Tensor, "m c h w"], Tensor]:
        """The rows `index`: float32 images in [0, 1], [m, c, h, w], and labels [m]."""
        index = index.to(self.images.device)
        return as_pixels(self.images[index]), self.labels[index]


def streamed(
    data: ImageData, index_iter: Iterable[Tensor], device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a set that does not fit on the device: float32 images in [0, 1], and labels.

    Each batch is transferred from pinned memory while the previous one is used; uint8 images
    are transferred as uint8.
    """
    device = torch.device(device)
    waiting: tuple[Tensor, Tensor] | None = None
    for index in index_iter:
        rows = index.to(data.images.device)
        coming = _to_device(data.images[rows], device), _to_device(data.labels[rows], device)
        if waiting is not None:
            yield as_pixels(waiting[0]), waiting[1]
        waiting = coming
    if waiting is not None:
        yield as_pixels(waiting[0]), waiting[1]


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
