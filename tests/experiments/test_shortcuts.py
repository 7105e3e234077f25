"""Planted shortcuts are measured where they agree and mislead; cues and places are as told."""

from dataclasses import replace

import pytest
import torch

from experiments.computed import computed
from notbugs.data import load_source
from notbugs.experiments import geirhos2020 as paper
from notbugs.experiments.experiment import Work
from notbugs.experiments.geirhos2020_stages import Cues, Dependence, Marked, Sky, marked
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import digest_of
from notbugs.features import Shortcut
from notbugs.judge import accuracy, predictions
from notbugs.training import Adversary, Noise, Recipe

CONFIG = replace(
    paper.EXPERIMENT.settings("digits", "smoke"),
    digest=digest_of(load_source("digits")),
    net=Net("linear"),
    training=Recipe(epochs=15, lr=0.05),
    train_size=600,
)
MARK = Shortcut("fine", 1.0)


def test_marks_agree_in_training_and_are_away_where_they_are_to_be(work: Work) -> None:
    view = paper.on_marks(CONFIG, 0, "standard", MARK, 0.5).data
    assert isinstance(view, Marked)
    parts = view.splits(work)
    agree = (parts.train.columns["pointed"] == parts.train.labels).double().mean()
    assert float(agree) == pytest.approx(0.5, abs=0.08)
    assert torch.equal(parts.test.columns["pointed"], parts.test.labels)
    plain = view.plain(work)
    assert float(plain.images.min()) >= 0.25 - 1e-6
    assert float(plain.images.max()) <= 0.75 + 1e-6
    torch.testing.assert_close(2 * plain.images - 0.5, view.original(work).pixels())


def test_a_net_that_follows_a_mark_is_seen_to(work: Work) -> None:
    model = paper.on_marks(CONFIG, 0, "standard", MARK)
    row = computed(Dependence(model, MARK), work)
    assert row["iid"] > 95
    assert row["followed"] > 60 > row["ood"]
    net, view = work.load(model), model.data
    assert isinstance(view, Marked)
    misleads = marked(view.original(work), MARK, 0.0, 0, "test")
    assert not bool((misleads.columns["pointed"] == misleads.labels).any())
    said = predictions(net, misleads)
    followed = (said == misleads.columns["pointed"]).double().mean()
    assert row["followed"] == pytest.approx(100 * float(followed))
    assert row["ood"] == pytest.approx(accuracy(net, misleads))
    unmarked = computed(Dependence(paper.on_marks(CONFIG, 0, "standard", None), MARK), work)
    assert unmarked["followed"] < 30
    assert unmarked["without"] > 80


def test_trainings_are_those_of_their_names() -> None:
    robust = paper.recipe_of(CONFIG, "robust", "l2:0.5")
    assert robust.adversary == Adversary("l2:0.5", steps=CONFIG.steps, eps_warmup=0.4)
    assert isinstance(paper.recipe_of(CONFIG, "noise", "l2:0.5").adversary, Noise)
    assert paper.recipe_of(CONFIG, "crops", "l2:0.5").augment.crop_padding == CONFIG.crop
    on_images = paper.on_images(CONFIG, 0, "robust").recipe.adversary
    assert isinstance(on_images, Adversary)
    assert on_images.threat == "l2:1.0"  # twice that on halved contrast


def test_parts_of_the_sky_are_apart(work: Work) -> None:
    sky = paper.on_stars(CONFIG, 0, CONFIG.dense, "random").data
    assert isinstance(sky, Sky)
    parts = sky.splits(work)
    assert len({part.digest for part in (parts.train, parts.val, parts.test)}) == 3
    assert len(parts.train.columns["quadrant"][parts.train.labels == 0].unique()) == 4
    assert set(parts.test.columns["quadrant"][parts.test.labels == 0].tolist()) == {1, 2}


def test_cues_of_one_class_agree(work: Work) -> None:
    test = paper.on_images(CONFIG, 0, "standard").data.splits(work).test
    cues, labels = Cues(60, 2), test.labels[:60]
    assert torch.equal(cues.joined(test, "filled", 0, same=True)[1], labels)
    assert not bool((cues.joined(test, "phase", 0, same=False)[1] == labels).any())


def test_settings_that_cannot_work_are_refused(work: Work) -> None:
    parts = paper.on_images(CONFIG, 0, "standard").data.splits(work)
    with pytest.raises(ValueError, match="`patch` must divide the sides of the images, 8 and 8"):
        paper.check(replace(CONFIG, patch=3), parts)
    with pytest.raises(ValueError, match="`agreements` must be below 1"):
        replace(CONFIG, agreements=(0.5, 1.0))
    with pytest.raises(ValueError, match="`norms` must hold rising numbers"):
        replace(CONFIG, norms=(1.0, 0.5))
