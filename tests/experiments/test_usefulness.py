"""Stages of usefulness: parts are a partition, halves are by gamma, and rows keep their numbers."""

from dataclasses import replace

import pytest
import torch

from experiments.computed import computed
from notbugs.data import load_source
from notbugs.experiments import usefulness as paper
from notbugs.experiments.experiment import Work
from notbugs.experiments.shared import digest_of
from notbugs.experiments.usefulness_stages import PARTS, Shares, half_of
from notbugs.features import cosine_frequencies

CONFIG = replace(
    paper.EXPERIMENT.settings("digits", "smoke"), digest=digest_of(load_source("digits"))
)


@pytest.mark.parametrize("family", paper.OF_DATA)
def test_parts_hold_every_feature_once(work: Work, family: str) -> None:
    judged = paper.judged(CONFIG, 0, "", family)
    whole = computed(judged, work)
    rows = [computed(Shares(judged, part), work) for part in ("", *PARTS)]
    every, first, second = (row["features"] for row in rows)
    assert every == first + second == len(whole.numbers)
    assert 0 <= first - second <= 1
    useful = [row["useful"] * row["features"] for row in rows]
    assert useful[0] == pytest.approx(useful[1] + useful[2])
    values = Shares(judged, PARTS[0]).values(whole, work)
    order = values.argsort(stable=True)
    assert values[order[: int(first)]].max() <= values[order[int(first) :]].min()
    if family == "cosines":
        shape = judged.data.train(work).shape
        assert torch.equal(values, cosine_frequencies(shape)[whole.numbers])
    best = whole.at_best()
    useful_first = best["useful"][order[: int(first)]]
    assert rows[1]["useful"] == pytest.approx(100 * float(useful_first.float().mean()))
    if bool(useful_first.any()):
        rho = best["rho"][order[: int(first)]][useful_first]
        assert rows[1]["rho"] == pytest.approx(float(rho.mean()))


def test_halves_part_the_units_by_what_is_left_of_them(work: Work) -> None:
    judged = paper.judged(CONFIG, 0, "standard", "units")
    found = computed(judged, work)
    halves = {half: half_of(judged, half, work) for half in paper.HALVES}
    robust, other = halves["robust half"], halves["other half"]
    assert torch.equal(torch.cat([robust, other]).sort().values, found.numbers.sort().values)
    assert torch.equal(halves["all units"], found.numbers.sort().values)
    assert len(halves["drawn half"]) == len(robust)
    gamma = dict(zip(found.numbers.tolist(), found.at_best()["gamma"].tolist(), strict=True))
    assert min(gamma[i] for i in robust.tolist()) >= max(gamma[i] for i in other.tolist())


def test_rows_are_those_of_the_features_that_were_asked_for(work: Work) -> None:
    judged = paper.judged(CONFIG, 0, "standard", "units")
    found, features = computed(judged, work), judged.features(work)
    assert torch.equal(found.numbers, features.numbers)
    data = judged.data.splits(work).test.select(slice(0, judged.count))
    values = features(data.pixels())
    best = found.at_best()
    for i, label in enumerate(best["class"].tolist()):
        of = data.labels == label
        rho = (values[of, i].mean() - values[~of, i].mean()) / 2
        assert abs(float(rho)) == pytest.approx(abs(float(best["rho"][i])), abs=1e-4)
