"""The sets of the discussion hold what they say, and squares are broken by their labels."""

from dataclasses import replace

import pytest
import torch

from experiments.computed import computed
from notbugs.analysis import high_frequency_share
from notbugs.data import load_source
from notbugs.engine import Threat
from notbugs.experiments import discussion2019
from notbugs.experiments.data_views import TwoClasses
from notbugs.experiments.discussion_examples import MadeFeatures, Points
from notbugs.experiments.discussion_stages import (
    Before,
    BugTransfer,
    Filtered,
    Foreign,
    Mistakes,
    Squares,
    TrueLabels,
)
from notbugs.experiments.experiment import Work
from notbugs.experiments.first_order import named_by
from notbugs.experiments.main_models import model, targeted
from notbugs.experiments.readouts import linear_readout, read
from notbugs.experiments.shared import Data, digest_of
from notbugs.judge import predictions

CONFIG = replace(
    discussion2019.EXPERIMENT.settings("digits", "smoke"),
    digest=digest_of(load_source("digits")),
    steps=15,
    eps=1.5,
)


def test_bands_have_their_frequencies_alone(work: Work) -> None:
    high, low = (computed(Filtered(Data.of(CONFIG, 0), 0.25, h), work) for h in (True, False))
    # What is cut to [0, 1] bends them a little.
    assert float(high_frequency_share(high.pixels()).mean()) > 0.9
    assert float(high_frequency_share(low.pixels()).mean()) < 0.1
    train = Data.of(CONFIG, 0).train(work)
    assert torch.equal(high.labels, train.labels)


def test_bugs_fool_the_source_and_not_the_ensemble(work: Work) -> None:
    shielded = discussion2019.bugs(CONFIG, 0, 2)
    plain = discussion2019.bugs(CONFIG, 0, 0)
    member = shielded.ensemble[0]
    made = {name: computed(one, work) for name, one in (("bugs", shielded), ("plain", plain))}
    fooled = {
        (name, role): float((named_by(work.load(net), data.pixels()) == data.labels).float().mean())
        for name, data in made.items()
        for role, net in (("source", shielded.source), ("member", member))
    }
    assert fooled["plain", "source"] > 0.8
    assert fooled["bugs", "source"] > 0.5
    assert fooled["bugs", "member"] < 0.1
    assert fooled["plain", "member"] > 2 * fooled["bugs", "member"]
    for data in made.values():
        assert torch.equal(data.labels, (data.columns["true_labels"] + 1) % 10)
        assert bool(((data.columns["distance"] - 1.5).abs() <= 0.015).all())
    fresh = model(CONFIG, 0, "fresh")
    row = computed(BugTransfer(shielded, fresh), work)
    assert row["fooled"] > row["transfer"]
    assert row["kept"] > 80
    assert computed(BugTransfer(plain, fresh), work)["kept"] is None


def test_poison_has_true_labels(work: Work) -> None:
    det = targeted(CONFIG, model(CONFIG, 0, "standard"), "det")
    poison = computed(TrueLabels(det), work)
    made = work.load(det)
    assert torch.equal(poison.labels, made.columns["true_labels"])
    assert torch.equal(poison.pixels(), made.pixels())
    student = discussion2019.student(CONFIG, TrueLabels(det))
    row = computed(Before(student), work)
    test = Data.of(CONFIG, 0).splits(work).test
    said = predictions(work.load(student), test)
    assert row["before"] == pytest.approx(
        100 * float((said == (test.labels - 1) % 10).double().mean())
    )


def test_mistakes_are_all_wrong_and_the_models_own(work: Work) -> None:
    hasty, train = discussion2019.hasty(CONFIG, 0), Data.of(CONFIG, 0).train(work)
    mistakes, shuffled = (computed(Mistakes(hasty, s), work) for s in (False, True))
    said = predictions(work.load(hasty), train)
    assert len(mistakes) == len(shuffled) == int((said != train.labels).sum()) > 0
    assert torch.equal(mistakes.labels, said[said != train.labels])
    for data in (mistakes, shuffled):
        assert torch.equal(data.columns["true_labels"], train.labels[said != train.labels])
        assert not bool((data.labels == data.columns["true_labels"]).any())
    assert not torch.equal(mistakes.labels, shuffled.labels)


def test_foreign_images_are_noise_that_a_model_labels(work: Work) -> None:
    standard = model(CONFIG, 0, "standard")
    made = computed(Foreign(standard), work)
    assert torch.equal(made.labels, named_by(work.load(standard), made.pixels()))
    assert float(made.pixels().std()) == pytest.approx(12**-0.5, abs=0.01)
    shuffled = computed(Foreign(standard, shuffled=True), work)
    assert torch.equal(shuffled.pixels(), made.pixels())
    assert torch.equal(shuffled.labels.sort().values, made.labels.sort().values)
    assert not torch.equal(shuffled.labels, made.labels)


def test_squares_are_turned_by_small_changes_where_labels_are_wrong(work: Work) -> None:
    stage = Squares(0, dimensions=400, points=120)
    table = computed(stage, work)["squares"]
    fitted, step, clean = (
        table[name] for name in ("all labels fitted", "one step", "no wrong labels")
    )
    assert fitted["fitted"] == clean["fitted"] == 100
    assert 80 < step["fitted"] < 100  # the wrong labels are not
    assert step["right"] == clean["right"] == 100
    assert fitted["flips_0.01"] > 50
    assert step["flips_0.8"] == clean["flips_0.8"] == 0


def test_a_readout_is_scikit_learns(work: Work) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = Data.of(CONFIG, 0).train(work), Data.of(CONFIG, 0).splits(work).test
    x, test_x = (data.pixels().flatten(1) for data in (train, test))
    wanted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    wanted.fit(x.double().numpy(), train.labels.numpy())
    layer = linear_readout(x, train.labels, 10)
    with torch.no_grad():
        said = layer(test_x.double()).argmax(dim=1)
    assert torch.equal(said, torch.from_numpy(wanted.predict(test_x.double().numpy())))
    score = read(x, train.labels, test_x, test.labels)
    assert score == pytest.approx(100 * wanted.score(test_x.double().numpy(), test.labels.numpy()))


@pytest.mark.parametrize("labels", [[0, 1], [0, 2], [1, 3, 4]])
def test_a_readout_tells_two_classes_and_those_that_are_there(labels) -> None:
    drawn = torch.Generator().manual_seed(0)
    y = torch.tensor(labels)[torch.randint(len(labels), (300,), generator=drawn)]
    x = torch.randn(300, 6, generator=drawn) + 4 * torch.eye(6)[y]
    layer = linear_readout(x[:200], y[:200], 5)
    with torch.no_grad():
        said = layer(x[200:].double()).argmax(dim=1)
    assert float((said == y[200:]).float().mean()) > 0.95
    assert set(said.tolist()) <= set(labels)
    assert read(x[:200], y[:200], x[200:], y[200:]) > 95
    with pytest.raises(ValueError, match="`labels`"):
        linear_readout(x, torch.zeros(300, dtype=torch.int64), 5)


def test_made_features_are_as_useful_as_they_say(work: Work) -> None:
    whole = TwoClasses("digits", CONFIG.digest, 100, pair=(3, 8))
    made = computed(MadeFeatures(whole, Threat.parse("l2:0.6")), work)["made"]
    assert made["most robust"]["gamma"] > 0 > made["weak, summed"]["gamma"]
    assert made["robust and useless"]["gamma"] < -1
    assert abs(made["useless"]["rho"]) < 0.25
    # Where they do not correlate, the sum of two features has the mean of their rho times sqrt(2).
    assert 0.5 < made["robust and useless"]["rho"] / made["most robust"]["rho"] < 0.9
    assert made["weak, at best"]["rho"] < 0.4
    assert made["drawn signs"]["rho"] < made["weak, summed"]["rho"] < 1
    assert made["drawn signs"]["features"] == made["weak, summed"]["features"] > 10


def test_without_weak_features_there_are_no_rows_of_them(work: Work) -> None:
    whole = TwoClasses("digits", CONFIG.digest, 100, pair=(3, 8))
    made = computed(MadeFeatures(whole, Threat.parse("l2:1e-6")), work)["made"]
    assert set(made) == {"most robust", "useless", "robust and useless"}


def test_pairs_are_two_classes(work: Work) -> None:
    for pair in ((3, 3), (-1, 2)):
        with pytest.raises(ValueError, match="pair"):
            replace(CONFIG, pair=pair)
    check, parts = discussion2019.EXPERIMENT.check, Data.of(CONFIG, 0).splits(work)
    assert check is not None
    with pytest.raises(ValueError, match=r"`pair`.*0\.\.9"):
        check(replace(CONFIG, pair=(3, 12)), parts)
    with pytest.raises(ValueError, match="other"):
        check(replace(CONFIG, other="fashion-mnist"), parts)


def test_another_model_sees_part_of_a_style(work: Work) -> None:
    stage = discussion2019.restyled(CONFIG, 0)
    rows = computed(stage, work)["styles"]
    assert list(rows) == ["standard", "robust", "untrained"]
    assert all(row["closed"] > max(20, row["seen"]) for row in rows.values())
    assert all(0 <= row["content"] <= 100 for row in rows.values())


def test_points_are_learnt_from_adversarial_ones(work: Work) -> None:
    rows = computed(Points(0, epochs=150, draws=4), work)["points"]
    assert rows["adversarial"]["learnt"] > max(50, rows["random"]["learnt"] + 15)
    assert rows["adversarial"]["reached"] > rows["random"]["reached"]


def test_images_of_another_set_must_have_the_shape(work: Work) -> None:
    named = Foreign(model(CONFIG, 0, "standard"), other="digits")
    computed(named.model, work)
    train = named.original.train(work)
    data = named.build(train, work)
    assert torch.equal(data.pixels(), load_source("digits").train.pixels(slice(0, len(train))))
    with pytest.raises(ValueError, match="'photographs'"):
        replace(named, other="photographs").build(train, work)
