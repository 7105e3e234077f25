"""Training on extra images at a share: which rows are drawn, exact resume, and what is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from killed import DATA, EVERYTHING, PARTS, SHORT, VAL, equal, small
from notbugs.core import random
from notbugs.core.errors import CheckpointError
from notbugs.data import ImageData
from notbugs.judge import accuracy
from notbugs.training import saving, train
from notbugs.training.extra import TrainingRows, check_extra, extra_in

NOISE = random.uniform(random.row_keys(90, "extra"), (1, 8, 8))
EXTRA = ImageData(
    (NOISE * 255).to(torch.uint8), torch.arange(90) % 10, DATA.class_names, "generated"
)
CPU = torch.device("cpu")


def rows(share=0.7, extra=EXTRA, seed=0):
    return TrainingRows(DATA, CPU, batch_size=32, seed=seed, extra=extra, share=share)


def drawn(of, epochs):
    return [list(of.batches(epoch)) for epoch in range(epochs)]


def test_every_batch_holds_the_share_and_an_epoch_as_many_images_as_the_originals() -> None:
    for share, count in ((0.7, 22), (0.25, 8)):
        for epoch in drawn(rows(share), 3):
            assert [len(index) for index in epoch] == [32] * (len(DATA) // 32)
            assert all(int((index >= len(DATA)).sum()) == count for index in epoch)
            own = torch.cat([index[index < len(DATA)] for index in epoch])
            assert len(own.unique()) == len(own)  # drawn without replacement


def test_no_extra_image_is_seen_twice_before_all_have_been_seen() -> None:
    flat = [i for epoch in drawn(rows(), 9) for index in epoch for i in index.tolist()]
    extra = [i - len(DATA) for i in flat if i >= len(DATA)]
    passes = [extra[i : i + 90] for i in range(0, len(extra), 90)]
    assert len(passes) == 9
    assert all(sorted(one) == list(range(90)) for one in passes[:-1])
    assert max(Counter(passes[-1]).values()) == 1
    assert passes[0] != passes[1]


def test_the_rows_depend_on_seed_and_epoch_alone() -> None:
    first, again = drawn(rows(), 4), rows()
    assert all(torch.equal(a, b) for a, b in zip(first[3], again.batches(3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first[0], rows(seed=1).batches(0)))  # noqa: B905


def test_a_batch_holds_the_images_and_labels_of_its_rows() -> None:
    index = next(rows().batches(0))
    x, y = rows().batch(index)
    own, more = index[:10], index[10:] - len(DATA)
    assert torch.equal(x, torch.cat([DATA.pixels(own), EXTRA.pixels(more)]))
    assert torch.equal(y, torch.cat([DATA.labels[own], EXTRA.labels[more]]))
    assert x.dtype == torch.float32


@pytest.mark.parametrize("recipe", [SHORT, EVERYTHING], ids=["plain", "everything at once"])
def test_a_killed_training_ends_with_the_same_bits(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, straight, heir = tmp_path / "c.safetensors", small(), small(seed=9)
    whole = train(straight, DATA, recipe, seed=3, val=VAL, extra=EXTRA)
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)

    def kill(fraction) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(), DATA, recipe, seed=3, val=VAL, extra=EXTRA, checkpoint_path=path,
              progress=kill)  # fmt: skip
    resumed = train(heir, DATA, recipe, seed=3, val=VAL, extra=EXTRA, checkpoint_path=path)
    assert equal(straight, heir)
    assert resumed.history == whole.history
    other = EXTRA.with_labels((EXTRA.labels + 1) % 10)
    for options in ({}, {"extra": other}, {"extra": EXTRA, "share": 0.5}):
        with pytest.raises(CheckpointError, match=r"belongs to another"):
            train(small(), DATA, recipe, seed=3, val=VAL, checkpoint_path=path, **options)


def test_true_images_beside_few_help_and_wrong_labels_hurt() -> None:
    """Digits that were not among the few: with their labels, and with shifted ones."""
    few, more = DATA.select(slice(0, 40)), PARTS.train.select(slice(128, None))
    recipe = replace(SHORT, epochs=100, batch_size=20, lr=0.1)
    found = {}
    for name, extra in {
        "none": None,
        "true": more,
        "wrong": more.with_labels((more.labels + 1) % 10),
    }.items():
        model = small(width=16, hidden=32)
        train(model, few, recipe, seed=0, extra=extra)
        found[name] = accuracy(model, PARTS.test)
    assert found["true"] > found["none"] + 5
    assert found["wrong"] < found["none"] - 20


OTHER_NAMES = replace(EXTRA, class_names=(*EXTRA.class_names[:8], "nine", "eight"))
WIDE = ImageData(torch.zeros(40, 1, 9, 8), torch.zeros(40).long(), EXTRA.class_names, "wide")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"`share` must lie between 0 and 1; got 0.0"),
        ({"share": 1.0}, r"train on the extra set itself"),
        ({"share": 0.01}, r"`share` must leave at least one row of each kind in a batch of 32"),
        ({"share": 0.99}, r"at least one row of each kind"),
        ({"extra": OTHER_NAMES}, r"`extra` must have the classes .* got 'nine' in the place"),
        ({"extra": WIDE}, r"`extra` must hold images of the model's shape \(1, 8, 8\)"),
        ({"extra": EXTRA.select(slice(0, 9))}, r"`extra` must hold at least the 22 images"),
        ({"soft": torch.full((128, 10), 0.1)}, r"`soft` must be left out with `extra`"),
    ],
    ids=["0", "1", "no extra row", "no own row", "names", "shape", "too few", "soft"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options, message) -> None:
    model = small()
    with pytest.raises(ValueError, match=message):
        train(model, DATA, SHORT, seed=0, **({"extra": EXTRA} | options))
    assert equal(model, small())


def test_a_set_of_other_images_or_classes_is_refused_without_a_model_too() -> None:
    with pytest.raises(ValueError, match=r"hold images of shape \(1, 8, 8\); got \(1, 9, 8\)"):
        check_extra(DATA, WIDE, 0.7, 32)
    fewer = ImageData(EXTRA.images, EXTRA.labels % 9, EXTRA.class_names[:9], "nine")
    with pytest.raises(ValueError, match=r"as many as the training images: 10; got 9 in 'nine'"):
        check_extra(DATA, fewer, 0.7, 32)


def test_numbers_stand_for_classes_without_names() -> None:
    names = tuple("abcdefghij")
    data, extra = replace(DATA, class_names=names), replace(EXTRA, class_names=DATA.class_names)
    assert DATA.class_names == tuple("0123456789")
    train(small(), data, replace(SHORT, epochs=1), seed=0, extra=extra)


def test_the_share_is_rounded() -> None:
    assert [extra_in(10, share) for share in (0.1, 0.14, 0.7, 0.86)] == [1, 1, 7, 9]
