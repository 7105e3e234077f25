"""Filtered images are those that a net has wrong; their controls are alike."""

from dataclasses import replace

import pytest
import torch

from experiments.computed import computed
from notbugs.core.errors import DataError
from notbugs.data import load_source
from notbugs.experiments import hendrycks2019 as paper
from notbugs.experiments.experiment import Work
from notbugs.experiments.hendrycks2019_stages import (
    LabelNoise,
    Outliers,
    Transfer,
    Voters,
    alike,
    wrong,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import digest_of
from notbugs.judge import predictions
from notbugs.training import Recipe

CONFIG = replace(
    paper.EXPERIMENT.settings("digits", "smoke"),
    digest=digest_of(load_source("digits")),
    net=Net("linear"),
    training=Recipe(epochs=10, lr=0.05, batch_size=32),
    train_size=1000,
)


def test_candidates_are_new_images_of_known_classes(work: Work) -> None:
    view = paper.candidates(CONFIG, 0)
    parts = view.splits(work)
    assert len(parts.train) == CONFIG.few
    assert parts.test.classes == parts.train.classes == 8
    assert int(parts.test.labels.max()) == 7
    rows = {tuple(x.tolist()) for x in parts.train.pixels().flatten(1)}
    assert not any(tuple(x.tolist()) in rows for x in parts.test.pixels().flatten(1))
    outliers = view.outliers(work)
    assert 150 < len(outliers) < 250
    with pytest.raises(DataError, match=r"leave no candidates beside 5000\. Lower `few`"):
        replace(view, few=5000).splits(work)


def test_transfer_counts_what_a_judge_has_right_of_anothers_mistakes(work: Work) -> None:
    standard, mlp = (paper.model(CONFIG, 0, role) for role in ("standard", "mlp"))
    filters = (("standard", standard), ("mlp", mlp))
    own, other = (computed(Transfer(judge, filters), work) for judge in (standard, mlp))
    assert own["on_standard"] == other["on_mlp"] == 0.0
    candidates = standard.data.splits(work).test
    missed = predictions(work.load(standard), candidates) != candidates.labels
    assert torch.equal(wrong(standard, work), missed)
    assert own["clean"] == pytest.approx(100 - 100 * float(missed.double().mean()))
    right = predictions(work.load(mlp), candidates) == candidates.labels
    assert other["on_standard"] == pytest.approx(100 * float(right[missed].double().mean()))
    votes = computed(Transfer(Voters(paper.candidates(CONFIG, 0), 3), filters), work)
    assert votes["clean"] > 80


def test_random_sets_are_of_the_same_classes() -> None:
    labels = torch.arange(200) % 4
    chosen = (torch.arange(200) < 40) & (labels > 0)
    drawn = alike(chosen, labels, 0)
    assert torch.equal(torch.bincount(labels[drawn]), torch.bincount(labels[chosen]))
    assert not torch.equal(drawn, chosen)
    assert not torch.equal(drawn, alike(chosen, labels, 1))


def test_changed_labels_are_filtered_and_suspected(work: Work) -> None:
    model, changed = paper.model(CONFIG, 0, "standard"), paper.candidates(CONFIG, 0, 0.1)
    candidates = changed.splits(work).test
    flipped = candidates.labels != candidates.columns["true_labels"]
    assert float(flipped.double().mean()) == pytest.approx(0.1, abs=0.03)
    row = computed(LabelNoise(model, changed, 5), work)
    assert row["kept"] > 90
    assert row["found"] > 80 > row["false"]
    filtered = wrong(model, work, candidates)
    assert row["changed"] == pytest.approx(100 * float(flipped[filtered].double().mean()))
    plain = computed(LabelNoise(model, paper.candidates(CONFIG, 0), 5), work)
    assert "found" not in plain
    assert plain["suspected"] > plain["suspected_random"]


def test_outliers_that_a_net_is_sure_of_are_hard_for_it(work: Work) -> None:
    model = paper.model(CONFIG, 0, "standard")
    row = computed(Outliers(model, model, 0.3), work)
    assert row["chance"] == 50.0
    assert row["aupr_hard"] < row["aupr_random"]


def test_settings_that_cannot_work_are_refused(work: Work) -> None:
    parts = super(type(view := paper.candidates(CONFIG, 0)), view).splits(work)
    with pytest.raises(ValueError, match="`held_out` must leave two of the 10 classes; got 9"):
        paper.check(replace(CONFIG, held_out=9), parts)
    with pytest.raises(ValueError, match=r"`few` must be below the \d+ training images of known"):
        paper.check(replace(CONFIG, few=1400), parts)
    with pytest.raises(ValueError, match="`hard` must be a share below 1"):
        replace(CONFIG, hard=1.5)
