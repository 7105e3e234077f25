"""Training, validation and test images, drawn by a seed."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import DataError, bad_value, check_count
from notbugs.data.dataset import JSON, ImageData
from notbugs.data.sources import Source

DEFAULT_TRAIN = {"digits": 1400}
"""Training images (validation included) of sets without an official test part; else 2/3."""


@dataclass(frozen=True)
class Splits:
    """Disjoint training, validation and test images."""

    train: ImageData
    val: ImageData
    test: ImageData


def split(
    source: Source,
    *,
    seed: int,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    test_size: int | None = None,
) -> Splits:
    """The seed's training, validation and test images of a source.

    `train_size` images are drawn from the training images, and the last `val_fraction` of
    them is the validation part, unless the publisher held one out. Test images are the official
    ones; where there are none, a part of all images that is the same for every seed, so that
    settings chosen on one seed's validation images have seen no seed's test images.

    - `source`: what `load_source` gives
    - `seed`: decides which images go where
    - `train_size`: training and validation images together. None: all, where there is an
      official test part; else 1,400 of digits, two thirds of other sets. More than that shortens
      the test part
    - `val_fraction`: share of `train_size` held out for validation, in (0, 1)
    - `test_size`: number of test images, drawn by the seed. None: all

    **Raises** ValueError where more images are requested than there are, or a part has none;
    DataError where the training part has images of one class only.
    """
    n = len(source.train)
    size = _train_size(source, n, train_size)
    held_out = 0 if source.val is not None else _held_out(size, val_fraction)
    if source.test is None:
        fixed, most = _shuffled(n, 0, "test-part"), max(size, _default_size(source))
        test_source, pool, train = source.train, fixed[most:], fixed[:most]
    else:
        test_source, pool = source.test, torch.arange(len(source.test))
        train = torch.arange(n)
    order = train[_shuffled(len(train), seed, "split")]
    if test_size is not None:
        check_count(test_size, "test_size")
        _check_enough(test_size, len(pool), "test_size", "test")
        pool = pool[_shuffled(len(pool), seed, "test")[:test_size]]
    rows = {"train": order[: size - held_out], "val": order[size - held_out : size], "test": pool}
    facts: dict[str, JSON] = {"source": source.name, "digest": source.train.digest, "seed": seed}
    val_source = source.train if source.val is None else source.val
    if source.val is not None:
        rows["val"] = torch.arange(len(val_source))
    facts |= {part: len(index) for part, index in rows.items()}
    splits = Splits(
        train=_part(source.train, "train", rows["train"], facts),
        val=_part(val_source, "val", rows["val"], facts),
        test=_part(test_source, "test", rows["test"], facts),
    )
    _check_classes(splits.train)
    return splits


def _train_size(source: Source, n: int, wanted: int | None) -> int:
    if wanted is not None:
        check_count(wanted, "train_size", 2, "One image to train on and one to validate.")
    if source.test is not None:
        size = n if wanted is None else wanted
        _check_enough(size, n, "train_size", "training")
        return size
    size = _default_size(source) if wanted is None else wanted
    if size >= n:
        raise bad_value(
            "train_size",
            f"leave test images: '{source.name}' has {n} images and no official test part",
            size,
            f"Use at most {n - 1}.",
        )
    return size


def _default_size(source: Source) -> int:
    n = len(source.train)
    return min(DEFAULT_TRAIN.get(source.name, n * 2 // 3), n - 1)


def _held_out(size: int, fraction: float) -> int:
    held_out = round(size * fraction)
    if not 0 < held_out < size:
        raise bad_value(
            "val_fraction",
            f"hold out some of the {size} training images, and not all",
            f"{fraction}, which holds out {held_out}",
            "Use a fraction like 0.1, or a larger `train_size`.",
        )
    return held_out


def _check_enough(wanted: int, available: int, argument: str, part: str) -> None:
    if wanted > available:
        raise bad_value(
            argument,
            f"not exceed the {available} {part} images there are",
            wanted,
            f"Use at most {available}, or leave it out to use all.",
        )


def _check_classes(train: ImageData) -> None:
    present = train.labels.unique()
    if len(present) < 2:
        raise DataError(
            f"The training part of '{train.name}' has images of one class only "
            f"('{train.class_names[int(present[0])]}'). Use more images or another seed."
        )


def _shuffled(n: int, seed: int, purpose: str) -> Tensor:
    return torch.randperm(n, generator=random.generator(seed, purpose))


def _part(data: ImageData, part: str, index: Tensor, facts: dict[str, JSON]) -> ImageData:
    chosen = data.select(index)
    return replace(chosen, provenance={**chosen.provenance, "split": {"part": part, **facts}})
