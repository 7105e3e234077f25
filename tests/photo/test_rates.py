"""Destruction rates, against counts by hand."""

import pytest
import torch

from notbugs.photo import Cell, destruction_rate, photo_rates


def test_the_destruction_rate_counts_successful_attacks() -> None:
    clean = torch.tensor([1, 1, 1, 1, 0, 0]).bool()
    adv = torch.tensor([0, 0, 0, 1, 0, 1]).bool()
    photo = torch.tensor([1, 0, 0, 1, 1, 1]).bool()
    assert destruction_rate(clean, adv, photo) == pytest.approx(1 / 3)
    assert destruction_rate(clean, clean, photo) is None
    with pytest.raises(ValueError, match="have an entry for each clean image"):
        destruction_rate(clean, adv, photo[:3])


def logits(*lead):
    """Logits of class 0, which lead those of class 1 by so much."""
    return torch.tensor([[float(one), 0.0] for one in lead])


def test_rates_are_of_pairs() -> None:
    """Four originals of class 0; the last has no photograph of its clean image."""
    order = [(0, "clean"), (0, "fgsm"), (1, "clean"), (1, "fgsm"), (2, "clean"), (2, "fgsm")]
    cells = [Cell(0, 0.0, 0.0, original, kind, 0) for original, kind in [*order, (3, "fgsm")]]
    before = logits(5, -5, 5, -1, -5, -5, -5)  # successful: 0, and 1, but not confidently
    after = logits(5, 2, -5, -2, 1, 1, 1)
    found = photo_rates(cells, torch.zeros(7).long(), before, after)
    assert found["clean"]["n"] == 3
    assert found["clean"]["accuracy"] == pytest.approx(200 / 3)
    assert found["clean"]["accuracy_photographed"] == pytest.approx(200 / 3)
    fgsm = found["adversarial"]["fgsm"]
    assert (fgsm["n"], fgsm["accuracy"], fgsm["accuracy_photographed"]) == (4, 0, 75)
    assert (fgsm["destruction_rate"], fgsm["successful"]) == (50, 2)
    assert (fgsm["destruction_rate_prefiltered"], fgsm["successful_prefiltered"]) == (100, 1)


def test_rates_of_nothing_are_none() -> None:
    found = photo_rates([Cell(0, 0.0, 0.0, 0, "fgsm", 0)], torch.zeros(1).long(), *[logits(1)] * 2)
    assert found["clean"] == {
        "n": 0,
        "accuracy": None,
        "accuracy_photographed": None,
        "accuracy_photographed_ci95": [0.0, 100.0],
    }
    assert found["adversarial"]["fgsm"]["destruction_rate"] is None
