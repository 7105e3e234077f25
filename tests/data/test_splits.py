from itertools import combinations

import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.data import ImageData, Source, load_source, split


def toy(n, classes=4, start=0) -> ImageData:
    """A set whose images tell which row they are."""
    images = (torch.arange(start, start + n).float() / 10_000).reshape(n, 1, 1, 1)
    return ImageData(images, torch.arange(n) % classes, tuple("abcd"), "toy", {"recipe": "toy"})


PUBLISHED = Source("toy", toy(100), toy(40, start=500))
WHOLE = Source("toy", toy(100), None)


def rows(data):
    return (data.images.flatten() * 10_000).round().int().tolist()


def sizes(made):
    return [len(made.train), len(made.val), len(made.test)]


def test_digits_by_default() -> None:
    made = split(load_source("digits"), seed=0)
    assert sizes(made) == [1260, 140, 397]
    assert all(len(part.labels.unique()) == 10 for part in (made.train, made.val, made.test))


def test_two_thirds_by_default() -> None:
    assert sizes(split(WHOLE, seed=0)) == [59, 7, 34]
    assert sizes(split(load_source("planted"), seed=0)) == [1800, 200, 1000]


@pytest.mark.parametrize("source", [PUBLISHED, WHOLE])
@pytest.mark.parametrize("options", [{}, {"train_size": 50, "test_size": 10}])
def test_no_image_is_in_two_parts(source, options) -> None:
    made = split(source, seed=3, **options)
    parts = [set(rows(part)) for part in (made.train, made.val, made.test)]
    assert all(not a & b for a, b in combinations(parts, 2))
    assert [len(part) for part in parts] == sizes(made)
    assert all(
        torch.equal(p.labels, torch.tensor([r % 100 % 4 for r in rows(p)]))
        for p in (made.train, made.val)
    )


def test_everything_is_used_by_default() -> None:
    made = split(WHOLE, seed=1)
    assert sorted(rows(made.train) + rows(made.val) + rows(made.test)) == list(range(100))
    made = split(PUBLISHED, seed=1)
    assert sorted(rows(made.train) + rows(made.val)) == list(range(100))
    assert rows(made.test) == list(range(500, 540))


def test_the_seed_decides() -> None:
    for source in (WHOLE, PUBLISHED):  # of the test part, which images are drawn
        once, again, other = (split(source, seed=s, test_size=8) for s in (0, 0, 1))
        for part in ("train", "val", "test"):
            assert getattr(once, part).digest == getattr(again, part).digest
            assert getattr(once, part).digest != getattr(other, part).digest


def test_no_seed_tests_on_what_another_was_tuned_on() -> None:
    splits = [split(WHOLE, seed=seed) for seed in range(4)]
    test = set(rows(splits[0].test))
    for made in splits:
        assert set(rows(made.test)) == test
        assert not test & {*rows(made.train), *rows(made.val)}
    assert len({tuple(rows(made.val)) for made in splits}) == 4
    smaller, larger = (split(WHOLE, seed=5, train_size=n) for n in (30, 90))
    assert set(rows(smaller.test)) == test > set(rows(larger.test))


def test_sizes_and_the_official_test_part() -> None:
    made = split(PUBLISHED, seed=0, train_size=60, val_fraction=0.25, test_size=12)
    assert sizes(made) == [45, 15, 12]
    assert all(row >= 500 for row in rows(made.test))


def test_a_smaller_test_part_is_a_part_of_the_larger() -> None:
    large, small = (split(PUBLISHED, seed=0, test_size=n) for n in (20, 5))
    assert rows(small.test) == rows(large.test)[:5]
    assert small.train.digest == large.train.digest


def test_columns_travel() -> None:
    data = load_source("planted")
    made = split(data, seed=0)
    assert len(made.val.columns["robust_feature"]) == 200


def test_provenance_tells_the_split() -> None:
    made = split(WHOLE, seed=7, train_size=80)
    assert made.val.provenance == {
        "recipe": "toy",
        "split": {
            "part": "val",
            "source": "toy",
            "digest": WHOLE.train.digest,
            "seed": 7,
            "train": 72,
            "val": 8,
            "test": 20,
        },
    }


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        (WHOLE, {"train_size": 100}, "`train_size` must leave test images: 'toy' has 100 images"),
        (PUBLISHED, {"train_size": 101}, "`train_size` must not exceed the 100 training images"),
        (WHOLE, {"train_size": 1}, "`train_size` must be at least 2"),
        (PUBLISHED, {"test_size": 41}, "`test_size` must not exceed the 40 test images"),
        (WHOLE, {"test_size": 35}, "`test_size` must not exceed the 34 test images"),
        (WHOLE, {"test_size": 0}, "`test_size` must be at least 1"),
        (WHOLE, {"val_fraction": 0.0}, "`val_fraction` must hold out some of the 66.*holds out 0"),
        (WHOLE, {"val_fraction": 1.0}, "and not all; got 1.0"),
        (WHOLE, {"train_size": 4}, "a larger `train_size`"),
    ],
)
def test_bad_sizes(source, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        split(source, seed=0, **options)


def test_one_class_in_training() -> None:
    one = Source("toy", toy(100).with_labels(torch.full((100,), 2)), None)
    with pytest.raises(DataError, match=r"one class only \('c'\). Use more images"):
        split(one, seed=0)
