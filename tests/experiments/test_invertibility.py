"""Stages of invertibility: who is identified, and correlations over models."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.computed import computed
from notbugs.data import load_source
from notbugs.experiments import invertibility as study
from notbugs.experiments.experiment import Work
from notbugs.experiments.invertibility_stages import (
    Accuracies,
    Correlated,
    FromLabel,
    NearestImage,
    Subject,
    chance_rank,
    identified,
    partial,
    rank,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import digest_of

CONFIG = replace(
    study.EXPERIMENT.settings("digits", "smoke"), digest=digest_of(load_source("digits"))
)


def flat(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)


def test_an_image_is_identified_where_the_true_one_is_nearest() -> None:
    every = torch.arange(6.0).reshape(6, 1, 1, 1) / 10
    y = torch.tensor([0, 0, 1, 1, 1, 1])
    assert identified(every[:4], every, y, flat) == {
        "identified": 100.0,
        "chance": pytest.approx(100 / 6),
        "in_class": 100.0,
        "class_chance": pytest.approx(100 * (2 / 2 + 2 / 4) / 4),
    }
    # The first is nearest to the third, which is of another class; in its own the first is.
    moved = torch.tensor([0.2, 0.0]).reshape(2, 1, 1, 1)
    assert identified(moved, every, y, flat)["identified"] == 0
    found = identified(torch.tensor([0.04, 0.2]).reshape(2, 1, 1, 1), every, y, flat)
    assert (found["identified"], found["in_class"]) == (50.0, 100.0)


def test_an_embedding_that_is_the_image_gives_it_all_away(work: Work) -> None:
    of = Subject(study.trained(CONFIG, 0, net=Net("linear")))
    row = computed(replace(study.inverted(CONFIG, 0, of), steps=40), work)
    assert row["relative_error"] < 1e-3
    assert row["ssim"] > 0.99
    assert row["identified"] == row["in_class"] == row["perceived"] == 100
    label = FromLabel(of, study.inverted(CONFIG, 0, of).judge, CONFIG.count, 20)
    # Of a class alone at most one image can be the nearest.
    assert computed(label, work)["identified"] <= 100 * 10 / CONFIG.count


def test_the_nearest_training_images_are_training_images(work: Work) -> None:
    plain = study.inverted(CONFIG, 0, Subject(study.trained(CONFIG, 0)))
    stage = NearestImage(plain.subject, plain.judge, 8, 1)
    computed(stage, work)
    model, parts = work.load(plain.subject.model), plain.subject.model.data.splits(work)
    x = parts.test.pixels(slice(0, 8))
    made = stage.made(model, x, parts.test, work)
    known = parts.train.pixels()
    rows = torch.cdist(flat(made.x), flat(known)).argmin(dim=1)
    assert torch.equal(made.x, known[rows])
    apart = torch.cdist(model.embed(x), model.embed(known))
    assert torch.equal(apart.argmin(dim=1), rows)
    assert made.relative_error is not None
    size = model.embed(x).norm(dim=1)
    active = size > 0
    assert int(active.sum()) > 4
    expected = apart.min(dim=1).values[active] / size[active]
    torch.testing.assert_close(made.relative_error[active], expected, rtol=1e-3, atol=1e-3)


def test_a_model_before_training_knows_no_class(work: Work) -> None:
    of = study.trained(CONFIG, 0, net=Net("linear"))
    rows = [computed(Accuracies(Subject(of, known), "l2:0.5"), work) for known in (True, False)]
    assert rows[0]["clean"] > 80 > 40 > rows[1]["clean"]
    assert rows[0]["clean"] > rows[0]["robust"] > rows[1]["robust"]
    assert rows[0]["width"] == 64


def test_partial_rank_correlations_are_those_of_residuals_of_ranks() -> None:
    drawn = np.random.default_rng(0)
    z = drawn.normal(size=40)
    x, y = (z + drawn.normal(size=40) for _ in range(2))
    ranks = [np.argsort(np.argsort(v)).astype(float) for v in (x, y, z)]
    ones = np.stack([ranks[2], np.ones(40)], axis=1)
    left = [v - ones @ np.linalg.lstsq(ones, v, rcond=None)[0] for v in ranks[:2]]
    expected = np.corrcoef(left[0], left[1])[0, 1]
    assert partial(list(x), list(y), list(z)) == pytest.approx(expected)
    assert rank([1.0, 2.0, 3.0], [0.1, 0.5, 0.6]) == pytest.approx(1.0)
    assert rank([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]) is None
    assert partial([1.0, 2.0, 4.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]) is None


@pytest.mark.parametrize("models", [9, 17])
def test_one_in_twenty_random_orders_reaches_the_bound(models: int) -> None:
    drawn = np.random.default_rng(1)
    orders = drawn.permuted(np.tile(np.arange(models), (20_000, 1)), axis=1)
    plain = np.arange(models) - (models - 1) / 2
    found = orders @ plain / (plain @ plain)
    assert float((found >= chance_rank(models)).mean()) == pytest.approx(0.05, abs=0.012)
    assert chance_rank(models) < chance_rank(models, given=1) < 1


def test_correlations_are_over_models(work: Work) -> None:
    nets = [study.trained(CONFIG, 0, net=study.with_embedding(CONFIG.net, w)) for w in (4, 12, 24)]
    pairs = [
        (Accuracies(Subject(of), "l2:0.5"), study.inverted(CONFIG, 0, Subject(of))) for of in nets
    ]
    row = computed(Correlated(tuple(pairs)), work)
    robust = [work.load(a)["robust"] for a, _ in pairs]
    similar = [work.load(made)["ssim"] for _, made in pairs]
    assert row["models"] == 3
    assert row["rank_ssim"] == rank(robust, similar)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": (0.5,)}, "`radii` must rise from 0"),
        ({"embeddings": (8,)}, "`embeddings` must be two widths"),
        ({"others": (Net("mlp"), Net("mlp"))}, "`others` must name each architecture once"),
        ({"linf": (-0.1,)}, "`linf`"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)
