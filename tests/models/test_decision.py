"""Right, broken and broken within rounding: one definition, free of offsets and masked classes."""

import pytest
import torch

from notbugs.models.decision import (
    classified_as,
    decided,
    looks_like_probabilities,
    misclassified,
    predicted,
    rounding_tolerance,
    spread_of,
)

INF, NAN = float("inf"), float("nan")
UNIT = torch.finfo(torch.float32).eps


def test_a_class_leads_alone_or_none_does() -> None:
    z = torch.tensor([[1.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0], [NAN, 1.0, 0.0]])
    assert predicted(z).tolist() == [1, -1, -1, -1]
    z = torch.tensor([[INF, 1.0, 0.0], [1.0, -INF, 0.0], [-INF, -INF, -INF]])
    assert predicted(z).tolist() == [-1, 0, -1]
    assert decided(z).tolist() == [False, True, False]


def test_the_tolerance_is_the_spread_and_the_rounding_of_the_two_that_lead() -> None:
    z = torch.tensor([[5.0, 5.0, -3.0, -4.0]])
    assert float(rounding_tolerance(z)) == pytest.approx((84 * 8 + 8 * 5) * UNIT)
    assert float(rounding_tolerance(z.double())) < 1e-8 * float(rounding_tolerance(z))
    assert float(rounding_tolerance(z.bfloat16())) == pytest.approx(float(rounding_tolerance(z)))
    torch.testing.assert_close(rounding_tolerance(4 * z), 4 * rounding_tolerance(z))


@pytest.mark.parametrize("mask", [-50.0, -1e3, -1e6, -1e9, -1e30])
@pytest.mark.parametrize("alive", [2, 3, 5])
def test_classes_that_cannot_win_do_not_widen_it(mask, alive) -> None:
    z = torch.linspace(4.0, -6.0, alive)[None]
    masked = torch.cat([z, torch.full((1, 20), mask)], dim=1)
    # With two classes alive, the masked one is third: it counts up to where it cannot win.
    slack = 84 * UNIT * 100 if alive == 2 else 0.0
    assert float(rounding_tolerance(masked)) <= float(rounding_tolerance(z)) + slack + 1e-12


@pytest.mark.parametrize("mask", [-1e3, -1e6, -1e9])
def test_masked_classes_do_not_set_the_spread(mask) -> None:
    z = torch.linspace(4.0, -6.0, 8)[None]
    assert float(spread_of(z)) == pytest.approx(float(z.std(dim=1)))
    masked = torch.cat([z, torch.full((1, 4), mask)], dim=1)
    assert float(spread_of(masked)) == pytest.approx(float(z.std(dim=1)))


@pytest.mark.parametrize("offset", [-1e5, 1e3, 1e5])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_an_offset_adds_its_own_rounding_alone(offset, classes) -> None:
    z = torch.linspace(5.0, -5.0, classes)[None]
    # The spacing of float32 there is up to one unit of the offset; a few of those are added.
    added = float(rounding_tolerance(z + offset) - rounding_tolerance(z))
    assert added <= 9 * UNIT * abs(offset)


def test_broken_is_a_lead_beyond_the_tolerance() -> None:
    for lead, counts in ((1e-2, True), (2e-4, False), (0.0, False), (-1.0, False)):
        z = torch.tensor([[100.0, 100.0 + lead, 1.0]])
        assert bool(misclassified(z, torch.tensor([0]))) is counts
        assert bool(classified_as(z, torch.tensor([1]))) is counts
    z = torch.tensor([[100.0, 100.0 + 7e-4, 1.0]])
    assert bool(misclassified(z, torch.tensor([0]), 0.5))
    assert not bool(misclassified(z, torch.tensor([0])))


def test_logits_that_are_not_finite_break_nothing() -> None:
    zero, one = torch.tensor([0]), torch.tensor([1])
    for row in ([NAN, NAN, NAN], [0.0, INF, 1.0], [0.0, NAN, 1.0], [INF, INF, 0.0]):
        z = torch.tensor([row])
        assert not bool(misclassified(z, zero))
        assert not bool(classified_as(z, one))
    # Minus infinity is a mask: what it leaves decides.
    z = torch.tensor([[0.0, 3.0, -INF]])
    assert bool(misclassified(z, zero))
    assert bool(classified_as(z, one))


def test_what_ends_in_a_softmax_or_a_sigmoid_looks_like_probabilities() -> None:
    z = torch.linspace(-9, 9, 40).reshape(8, 5)
    assert looks_like_probabilities(z.softmax(dim=1))
    assert looks_like_probabilities(z.sigmoid())
    assert not looks_like_probabilities(z)
    assert not looks_like_probabilities(z.log_softmax(dim=1))
    assert not looks_like_probabilities(0.2 * z.sigmoid())  # small logits, of no such kind
