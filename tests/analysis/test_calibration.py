"""Calibration and detection against closed forms and scikit-learn."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from notbugs.analysis import (
    aurra,
    detection_aupr,
    max_softmax,
    response_rates,
    rms_calibration_error,
)
from notbugs.core import random


def drawn(n: int, name: str) -> torch.Tensor:
    return random.scalar(random.row_keys(n, "calibration", name))


def test_confidence_is_the_largest_probability() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, -2.0]])
    expected = torch.tensor([0.5, 1 / (1 + torch.e**-4)])
    torch.testing.assert_close(max_softmax(logits), expected)


def test_calibration_error_of_bins_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.1, 0.8, 0.2, 1.0])
    right = torch.tensor([True, False, False, True, True])
    # Sorted: 0.1 x, 0.2 ok | 0.8 x, 0.9 ok, 1.0 ok: gaps of 0.5 - 0.15 and 2/3 - 0.9.
    expected = 100 * ((2 * 0.35**2 + 3 * (2 / 3 - 0.9) ** 2) / 5) ** 0.5
    assert rms_calibration_error(confidence, right, per_bin=2) == pytest.approx(expected, abs=1e-5)
    order = torch.tensor([3, 1, 4, 0, 2])
    again = rms_calibration_error(confidence[order], right[order], per_bin=2)
    assert again == pytest.approx(expected, abs=1e-5)


def test_a_calibrated_model_has_little_calibration_error_and_a_wrong_one_its_confidence() -> None:
    confidence = 0.5 + drawn(20_000, "confidence") / 2
    right = drawn(20_000, "right") < confidence
    # Of chance alone: the root of p (1 - p) / 100, with a mean of 1/6 under it.
    assert rms_calibration_error(confidence, right) == pytest.approx(4.1, abs=0.4)
    assert rms_calibration_error(confidence, right, per_bin=5000) < 1.2
    sure = torch.full((250,), 0.75)
    assert rms_calibration_error(sure, torch.zeros(250, dtype=torch.bool)) == 75.0
    assert rms_calibration_error(sure, torch.ones(250, dtype=torch.bool)) == 25.0


def test_response_rates_of_an_order_and_of_ties() -> None:
    right = torch.tensor([True, False, True])
    rates = response_rates(torch.tensor([0.9, 0.5, 0.7]), right)
    torch.testing.assert_close(rates, torch.tensor([100, 100, 200 / 3], dtype=torch.float64))
    ties = response_rates(torch.tensor([0.5, 0.5, 0.5]), right)
    torch.testing.assert_close(ties, torch.full((3,), 200 / 3, dtype=torch.float64))


def test_aurra_rewards_confidence_that_orders_mistakes_last() -> None:
    right = torch.tensor([True, True, False, False])
    sorted_well, badly = torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([0.1, 0.2, 0.8, 0.9])
    # 1, 1, 2/3, 1/2 and 0, 0, 1/3, 1/2.
    assert aurra(sorted_well, right) == pytest.approx(100 * (1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert aurra(badly, right) == pytest.approx(100 * (1 / 3 + 1 / 2) / 4)
    assert aurra(torch.ones(4), right) == 50.0


@pytest.mark.parametrize("digits", [1, 2, 8])  # the fewer, the more ties
def test_detection_agrees_with_scikit_learn(digits: int) -> None:
    inliers = (drawn(300, "inliers") * 10**digits).round() / 10**digits
    outliers = (drawn(120, "outliers") ** 0.5 * 10**digits).round() / 10**digits
    truth = torch.cat([torch.ones(120), torch.zeros(300)])
    expected = average_precision_score(truth.numpy(), torch.cat([outliers, inliers]).numpy())
    assert detection_aupr(outliers, inliers) == pytest.approx(100 * expected, abs=1e-9)


def test_detection_of_all_and_by_nothing() -> None:
    low, high = torch.zeros(6), torch.ones(2)
    assert detection_aupr(high, low) == 100.0
    assert detection_aupr(torch.zeros(2), low) == 25.0


def test_bad_input() -> None:
    half, right = torch.tensor([0.5, 0.5]), torch.tensor([True, False])
    with pytest.raises(ValueError, match="`confidence` must lie in \\[0, 1\\]; got values from"):
        rms_calibration_error(3 * half, right)
    with pytest.raises(ValueError, match="`per_bin` must be"):
        rms_calibration_error(half, right, per_bin=0)
    with pytest.raises(ValueError, match="`confidence` must be finite"):
        aurra(half / 0, right)
    with pytest.raises(ValueError, match="`outliers` must hold one number for each image"):
        detection_aupr(half[:0], half)
    with pytest.raises(ValueError, match="`inliers` must be finite"):
        detection_aupr(half, half * float("nan"))
