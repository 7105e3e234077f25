"""Images and labels as others hold them: pairs of tensors, data loaders, datasets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from notbugs.core import mapped
from notbugs.core.errors import bad_type, bad_value
from notbugs.data.dataset import ImageData

IMAGES = ("image", "img", "images", "pixel_values", "x")
LABELS = ("label", "labels", "fine_label", "y")
"""What datasets of dictionaries call their columns."""
REMEDY = (
    "Pass (images, labels), a DataLoader, a dataset, or ImageData(images, labels, names, name)."
)


@final
@dataclass(frozen=True, eq=False)
class Given:
    """Images [n, c, h, w], uint8 or float in [0, 1], and labels [n], with names where known."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.shape
        return (channels, height, width)

    def named(self, classes: int | None = None) -> ImageData:
        """With the names, or so many numbers in their place (None: up to the largest label)."""
        names = self.class_names
        if names is None:
            count = int(self.labels.max()) + 1 if classes is None else classes
            names = tuple(map(str, range(count)))
        return ImageData(self.images, self.labels, names, "given")


def given(value: object, argument: str = "data") -> Given:
    """Reads all of a pair (images, labels), a `DataLoader`, or a dataset that can be indexed.

    Items are (image, label), or dictionaries as in Hugging Face's `datasets`; images are tensors
    [c, h, w], arrays [h, w] or [h, w, c] in 0..255, or PIL's. All of it is held in memory; images
    of a large dataset lie in a temporary file.

    **Raises** TypeError for anything else; ValueError for no images, or of several sizes.
    """
    names = _names_of(value)
    if isinstance(value, tuple | list):
        pair = cast("Sequence[object]", value)
        if len(pair) == 2 and isinstance(pair[0], Tensor):
            labels = _whole(pair[1], argument)
            return Given(_four(pair[0], argument), labels, names)
    if isinstance(value, DataLoader):
        batches = [_pair(batch, argument) for batch in cast("Iterable[object]", value)]
        images = [_four(torch.as_tensor(x), argument) for x, _ in batches]
        return _joined(images, [_whole(y, argument) for _, y in batches], names, argument)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str):
        dataset = cast("Any", value)
        labels = list[int]()
        images = mapped.filled(len(dataset), _items(dataset, labels, argument))
        if not labels:
            raise _sizes(set(), argument)
        return Given(images, torch.tensor(labels), names)
    raise bad_type(argument, "images and labels", value, REMEDY)


def _whole(labels: Any, argument: str) -> Tensor:
    """Labels as whole numbers."""
    found = torch.as_tensor(labels)
    if found.is_floating_point() or found.is_complex():
        raise bad_value(
            argument, "hold labels as whole numbers", f"labels of {found.dtype}", "Use .long()."
        )
    return found.long()


def _pair(item: object, argument: str) -> tuple[Any, Any]:
    """(image, label) of an item, or of a batch."""
    if isinstance(item, Mapping):
        columns = cast("Mapping[str, Any]", item)
        found = [next((columns[n] for n in ns if n in columns), None) for ns in (IMAGES, LABELS)]
        if all(part is not None for part in found):
            return found[0], found[1]
        raise bad_value(
            argument,
            "have an image and a label in every item",
            f"the columns {list(columns)}",
            REMEDY,
        )
    if isinstance(item, tuple | list) and len(cast("Sequence[object]", item)) >= 2:
        return cast("tuple[Any, Any]", item)[0], cast("tuple[Any, Any]", item)[1]
    raise bad_type(argument, "items (image, label)", item, REMEDY)


def _tensor(image: Any, argument: str) -> Tensor:
    """An image as a tensor [c, h, w]."""
    if isinstance(image, Tensor):
        return image
    if isinstance(image, Image.Image):
        image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    elif not isinstance(image, np.ndarray):
        raise bad_type(argument, "images as tensors, arrays or of PIL", image, REMEDY)
    array = np.array(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        found = f"an array of {array.dtype}, {array.ndim} dimensions"
        raise bad_value(argument, "hold arrays [h, w] or [h, w, c] in 0..255", found, REMEDY)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _four(x: Tensor, argument: str) -> Tensor:
    if x.ndim != 4:
        shape = f"shape {tuple(x.shape)}"
        raise bad_value(argument, "hold images [n, channels, height, width]", shape)
    return x


def _joined(
    images: list[Tensor], labels: list[Tensor], names: tuple[str, ...] | None, argument: str
) -> Given:
    sizes = {tuple(x.shape[1:]) for x in images}
    if len(sizes) != 1:
        raise _sizes(sizes, argument)
    return Given(torch.cat(images), torch.cat(labels), names)


def _items(dataset: Any, labels: list[int], argument: str) -> Iterator[Tensor]:
    """Each image as [1, c, h, w]; its label goes into `labels`."""
    sizes, types = set[tuple[int, ...]](), set[torch.dtype]()
    for i in range(len(dataset)):
        image, label = _pair(dataset[i], argument)
        x = _tensor(image, argument)[None]
        sizes.add(tuple(x.shape[1:]))
        types.add(x.dtype)
        if len(sizes) > 1:
            raise _sizes(sizes, argument)
        if len(types) > 1:
            received = " and ".join(sorted(map(str, types)))
            raise bad_value(argument, "hold images of one type", received, "Convert them alike.")
        labels.append(int(label))
        yield x


def _sizes(sizes: set[tuple[int, ...]], argument: str) -> ValueError:
    received = f"images of {sorted(sizes)[:3]}" if sizes else "none"
    return bad_value(argument, "hold images of one size", received, "Resize them alike.")


def _names_of(value: object) -> tuple[str, ...] | None:
    """The names that a dataset of torchvision or Hugging Face gives its classes."""
    dataset = value.dataset if isinstance(value, DataLoader) else value  # pyright: ignore
    names: Any = getattr(dataset, "classes", None)
    features: Any = getattr(dataset, "features", None)
    if names is None and isinstance(features, Mapping):
        column: Any = next((features[n] for n in LABELS if n in features), None)
        names = getattr(column, "names", None)
    return None if names is None else tuple(map(str, names))
