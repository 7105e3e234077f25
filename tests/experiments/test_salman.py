"""Stages of transfer: halves and few images are disjoint, heads are new, choices see no test."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional

from experiments.computed import computed
from notbugs.core import random
from notbugs.data import ImageData, load_source
from notbugs.experiments import salman2020 as paper
from notbugs.experiments.data_views import Part
from notbugs.experiments.experiment import Work
from notbugs.experiments.numbers import Columns
from notbugs.experiments.readouts import embedded, linear_readout
from notbugs.experiments.salman2020_stages import (
    BestRadius,
    Fixed,
    OnSource,
    Transferred,
    place_in_class,
    with_new_head,
)
from notbugs.experiments.shared import digest_of
from notbugs.judge import accuracy
from notbugs.training import train

DIGEST = digest_of(load_source("digits"))
CONFIG = replace(
    paper.EXPERIMENT.settings("digits", "smoke"),
    digest=DIGEST,
    source_digest=DIGEST,
    train_size=400,
)


def test_halves_share_no_class_and_count_theirs_from_0(work: Work) -> None:
    whole = Part("digits", DIGEST, 0, 400, 60, side=8).splits(work)
    source = paper.source_data(CONFIG, 0).splits(work)
    target = paper.target(CONFIG, 0).data.splits(work)
    for part in ("train", "val", "test"):
        every, first, second = (getattr(of, part) for of in (whole, source, target))
        assert len(first) + len(second) == len(every)
        assert first.labels.unique().tolist() == second.labels.unique().tolist() == [0, 1, 2, 3, 4]
        assert torch.equal(first.images, every.images[every.labels < 5])
        assert torch.equal(second.images, every.images[every.labels >= 5])
        assert torch.equal(second.labels, every.labels[every.labels >= 5] - 5)
    assert target.train.class_names == ("5", "6", "7", "8", "9")


def test_from_another_set_all_classes_are_taken_at_one_size() -> None:
    other = replace(CONFIG, source="mnist", source_digest="of mnist", side=12)
    assert other.digested == {"digest": "digits", "source_digest": "mnist"}
    source, target = paper.source_data(other, 0), paper.target(other, 0).data
    assert isinstance(target, Part)
    assert (source.name, source.digest, source.side, source.classes) == (
        "mnist", "of mnist", 12, (),
    )  # fmt: skip
    assert (target.name, target.digest, target.side, target.classes) == ("digits", DIGEST, 12, ())


def test_less_detail_is_lost_and_the_size_kept(work: Work) -> None:
    fine = Part("digits", DIGEST, 0, 400, 60, side=8).splits(work).test
    coarse = Part("digits", DIGEST, 0, 400, 60, side=8, detail=2).splits(work).test
    assert coarse.shape == fine.shape == (1, 8, 8)

    def variation(data: ImageData) -> float:
        return float(data.pixels().diff(dim=-1).abs().mean())

    assert variation(coarse) < 0.5 * variation(fine)
    x = fine.pixels()
    for side in (2, 8):
        x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
    torch.testing.assert_close(coarse.pixels(), x, rtol=0, atol=2 / 255)  # 8 bits, twice


def test_few_images_of_each_class_and_the_held_out_ones_are_apart(work: Work) -> None:
    labels = torch.tensor([1, 0, 1, 1, 0])
    assert place_in_class(labels).tolist() == [0, 0, 1, 2, 1]
    target = paper.target(CONFIG, 0)
    sets, held = list(target.few(work)), target.held_out(work)
    for few, count in zip(sets, CONFIG.shots, strict=True):
        assert torch.bincount(few.labels).tolist() == [count] * 5
    parts = target.data.splits(work)
    assert len(held) == len(parts.train) - len(sets[-1]) + len(parts.val)

    def rows(data: ImageData) -> set[bytes]:
        return {image.numpy().tobytes() for image in data.images}

    assert rows(sets[0]) < rows(sets[1]) < rows(sets[2])
    assert not rows(held) & rows(sets[2])
    assert not rows(held) & rows(parts.test)


def test_a_new_head_leaves_the_embedding_and_forgets_the_classes(work: Work) -> None:
    model = computed(paper.pretrained(CONFIG, 0, 0.0), work)
    x = paper.target(CONFIG, 0).data.splits(work).test.pixels()
    fresh = with_new_head(model, 3, seed=1)
    assert fresh.logits(x).shape == (len(x), 3)
    assert torch.equal(fresh.embed(x), model.embed(x))
    assert not torch.equal(fresh.logits(x), with_new_head(model, 3, seed=2).logits(x))


def test_fixed_features_are_read_by_a_regression_that_sees_no_test_image(work: Work) -> None:
    source, target = paper.pretrained(CONFIG, 0, 0.0), paper.target(CONFIG, 0)
    model, test = computed(source, work), target.data.splits(work).test
    few = list(target.few(work))[1]
    for pixels in (False, True):
        row = computed(Fixed(source, target, pixels=pixels), work)
        codes = few.pixels().flatten(1) if pixels else embedded(model, few)
        tested = test.pixels().flatten(1) if pixels else embedded(model, test)
        named = linear_readout(codes, few.labels, 5)(tested.double()).argmax(dim=1)
        assert row["shots_1"] == pytest.approx(100 * float((named == test.labels).double().mean()))
        assert row["mean"] == pytest.approx(sum(row[f"shots_{i}"] for i in range(3)) / 3)
    assert computed(Fixed(source, target, trained=False), work)["mean"] != row["mean"]


def test_from_scratch_the_source_does_not_matter(work: Work) -> None:
    standard, robust = (paper.pretrained(CONFIG, 0, eps) for eps in (0.0, 0.5))
    rows = [
        computed(paper.tuned(CONFIG, of, 0, scratch=scratch), work)
        for scratch in (True, False)
        for of in (standard, robust)
    ]
    assert rows[0] == rows[1]
    assert rows[2] != rows[3]


def test_the_net_of_equal_accuracy_is_the_nearest_of_its_epochs(work: Work) -> None:
    early = paper.as_accurate(CONFIG, 0, 0.5)
    model = computed(early, work)
    val = early.data.splits(work).val
    assert early.like is not None
    wanted = accuracy(work.load(early.like), val)
    again, seed = early.untrained(work), random.seed_of(0, early.role)
    recipe, train_data = replace(early.recipe, watch_every=1), early.data.train(work)
    epochs = train(again, train_data, recipe, seed=seed, val=val).history
    gaps = [abs(epoch["val_clean"] - wanted) for epoch in epochs]
    assert abs(accuracy(model, val) - wanted) == pytest.approx(min(gaps))
    assert len(set(gaps)) > 1
    row = computed(OnSource(early, "l2:0.5"), work)
    assert 0 <= row["withstood"] <= row["source"] <= 100


@dataclass(frozen=True)
class Written(Transferred):
    """A transfer whose numbers are written down."""

    held: float = 0.0
    mean: float = 0.0

    def pair(self, *_: object) -> torch.Tensor:
        return torch.zeros(2)

    def measure(self, work: Work) -> Columns:
        return {"held": self.held, "mean": self.mean}


def test_the_radius_is_chosen_by_held_out_images_over_all_seeds(work: Work) -> None:
    source, target = paper.pretrained(CONFIG, 0, 0.0), paper.target(CONFIG, 0)

    def ladder(*held: float) -> tuple[tuple[float, Transferred], ...]:
        # Test accuracies fall where held-out ones rise, and the standard net is the best of all.
        numbers = zip((0.0, 0.5, 1.0), held, strict=True)
        return tuple((e, Written(source, target, held=h, mean=100 - h)) for e, h in numbers)

    both = BestRadius((ladder(99, 70, 80), ladder(99, 75, 60)))
    assert computed(both, work) == 0.5
    assert computed(BestRadius((ladder(99, 70, 80),)), work) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": (0.1, 0.5)}, "`radii` must rise from 0"),
        ({"shots": (2, 4)}, "`shots` must be 3 rising numbers"),
        ({"widths": (1.0,)}, "`widths` must be two rising"),
        ({"rates": ()}, "`rates` must hold a learning rate"),
        ({"best_full": 0.0}, "`best_full`"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_sources_of_other_channels_and_missing_images_are_refused(work: Work) -> None:
    parts = paper.target(CONFIG, 0).data.splits(work)
    paper.check(CONFIG, parts)
    with pytest.raises(ValueError, match="`source` must be one of digits, mnist"):
        paper.check(replace(CONFIG, source="cifar10"), parts)
    with pytest.raises(ValueError, match="`shots` must be below"):
        paper.check(replace(CONFIG, shots=(1, 2, 300)), parts)
