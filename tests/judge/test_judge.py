"""Robust accuracy is counted per example."""

import json

import pytest
import torch
from torch import nn

from notbugs.attacks import pgd
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Linf, Threat
from notbugs.judge import accuracy, evaluate, evaluation_pgd, predictions, wilson
from notbugs.models import wrap

THREAT = Threat.parse("linf:0.1")
PGD = [evaluation_pgd(THREAT)]


def rows_of_two(n=40) -> ImageData:
    """Images whose first pixel decides; labels are right for all but the last four."""
    x = 0.5 + 0.3 * (random.uniform(random.row_keys(n, "judge"), (1, 2, 2)) - 0.5)
    y = (x[:, 0, 0, 0] > 0.5).long()
    y[-4:] = 1 - y[-4:]
    return ImageData(x, y, ("low", "high"), "two")


def threshold(scale=50.0):
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
        layer.bias.copy_(scale * torch.tensor([0.5, -0.5]))
    return wrap(nn.Sequential(nn.Flatten(), layer), shape=(1, 2, 2), classes=2, embedding="0")


def test_robust_means_right_when_clean_and_under_attack() -> None:
    data, model = rows_of_two(), threshold()
    verdict = evaluate(model, data, THREAT, attacks=PGD)
    margin = (data.images[:, 0, 0, 0] - 0.5).abs()
    right = torch.ones(40, dtype=torch.bool)
    right[-4:] = False
    assert torch.equal(verdict.right, right)
    assert torch.equal(verdict.robust, right & (margin > 0.1))
    assert verdict.clean_accuracy == pytest.approx(90.0)
    assert 0 < verdict.robust_accuracy < verdict.clean_accuracy


def test_attacks_are_joined_per_example_not_averaged() -> None:
    """Two attacks, each made to break half of the rows, leave nothing between them."""
    data, model = rows_of_two(), threshold()
    wide = Threat.parse("linf:0.3")

    def only(rows):
        def loss(logits, classes):  # constant, hence without effect, on the other rows
            value = nn.functional.cross_entropy(logits, classes, reduction="none")
            return torch.where(classes == rows, value, 0 * value)

        return pgd(Linf(), 0.3, steps=10, loss=loss, random_start=False)

    alone = [evaluate(model, data, wide, attacks=[only(c)]).robust for c in (0, 1)]
    both = evaluate(model, data, wide, attacks=[only(0), only(1)])
    assert torch.equal(both.robust, alone[0] & alone[1])
    assert int(both.robust.sum()) < min(int(a.sum()) for a in alone)
    assert sum(a.broken for a in both.attacks) == int((both.right & ~both.robust).sum())


def test_the_verdict_does_not_depend_on_the_batch_size() -> None:
    data, model = rows_of_two(), threshold()
    whole = evaluate(model, data, THREAT, attacks=PGD, batch_size=40)
    small = evaluate(model, data, THREAT, attacks=PGD, batch_size=7)
    assert torch.equal(whole.robust, small.robust)


def test_verdict_as_json() -> None:
    words = json.loads(
        json.dumps(evaluate(threshold(), rows_of_two(), THREAT, attacks=PGD).as_json())
    )
    assert set(words) == {
        "threat", "n", "clean_accuracy", "robust_accuracy", "ci95", "attacks", "masking", "seconds",
        "forwards_per_image", "robust_accuracy_is_upper_bound",
    }  # fmt: skip
    assert words["n"] == 40
    assert words["ci95"][0] <= words["robust_accuracy"] <= words["ci95"][1]
    assert set(words["attacks"][0]) == {"name", "broken", "seconds", "copy"}


def test_masking_shows_on_a_saturated_model_only() -> None:
    assert (
        evaluate(threshold(50.0), rows_of_two(), THREAT, attacks=PGD).masking[0]["verdict"]
        == "clear"
    )
    found = evaluate(threshold(1e6), rows_of_two(), THREAT, attacks=PGD)
    assert found.masking[0]["verdict"] == "suspicious"


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 10, 0.0, 27.75), (50, 100, 40.38, 59.62), (10, 10, 72.25, 100)]
)
def test_wilson_interval(k, n, low, high) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=0.01)


def test_accuracy_and_predictions() -> None:
    data, model = rows_of_two(), threshold()
    assert accuracy(model, data) == pytest.approx(90.0)
    assert accuracy(model, data, 1 - data.labels) == pytest.approx(10.0)
    assert torch.equal(predictions(model, data, batch_size=3), predictions(model, data))


def test_what_does_not_fit_is_refused() -> None:
    data, model = rows_of_two(), threshold()
    other = ImageData(torch.rand(3, 1, 3, 3), torch.tensor([0, 1, 0]), ("a", "b"), "other")
    with pytest.raises(ValueError, match=r"model's shape \(1, 2, 2\); got \(1, 3, 3\) in 'other'"):
        evaluate(model, other, THREAT, attacks=PGD)
    three = ImageData(data.images, data.labels, ("a", "b", "c"), "three")
    with pytest.raises(ValueError, match=r"model's 2 classes; got 3 in 'three'"):
        evaluate(model, three, THREAT, attacks=PGD)
    with pytest.raises(ValueError, match=r"`attacks` must all have the threat linf:0.1"):
        evaluate(model, data, THREAT, attacks=[pgd(Linf(), 0.2)])
