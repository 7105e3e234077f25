"""How far a model's confidence can be trusted: calibration, abstention, detection of outliers.

A confidence is any number that is larger where a model is surer, such as the largest probability.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Logits, Mask, Rows

PER_BIN = 100


def max_softmax(logits: Logits) -> Rows:
    """The largest softmax probability of each row, [n], in [1 / k, 1].

    **Source**: Hendrycks & Gimpel 2017 (arXiv 1610.02136), as a detector of outliers.
    """
    return logits.softmax(dim=1).amax(dim=1)


def rms_calibration_error(confidence: Rows, right: Mask, *, per_bin: int = PER_BIN) -> float:
    """The root mean square over images of |accuracy - mean confidence| of their bin, in percent.

    Images are sorted by confidence and cut into bins of `per_bin`; the last takes the rest, so that
    each holds at least that many, or all images. Among images of equal confidence it is that of
    their mean accuracy, whatever their order.

    - `confidence` [n] in [0, 1]; `right` [n]: whether the image is classified correctly

    **Raises** ValueError for no image, confidences outside [0, 1], and bins of less than one.
    **Source**: Hendrycks et al. 2019 (arXiv 1907.07174), section 4, bins of 100.

    >>> rms_calibration_error(torch.tensor([0.75] * 4), torch.tensor([True, True, False, False]))
    25.0
    """
    _check(confidence, right)
    check_count(per_bin, "per_bin")
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        low, high = (f"{float(v):.3g}" for v in torch.aminmax(confidence))
        raise bad_value("confidence", "lie in [0, 1]", f"values from {low} to {high}")
    n, (value, order) = len(confidence), confidence.double().sort()
    gap = _shared(value, right.double()[order]) - value
    of_row = (torch.arange(n, device=gap.device) // per_bin).clamp(max=max(0, n // per_bin - 1))
    sums = gap.new_zeros(int(of_row[-1]) + 1).index_add_(0, of_row, gap)
    error = (sums.square() / torch.bincount(of_row)).sum() / n
    return 100 * float(error.sqrt())


def response_rates(confidence: Rows, right: Mask) -> Float[Tensor, " n"]:
    """The accuracy in percent on the 1, 2, ..., n images of the largest confidence, [n].

    Among images of equal confidence it is the mean over their orders.
    """
    _check(confidence, right)
    value, order = confidence.sort(descending=True)
    of = _shared(value, right.double()[order])
    return 100 * of.cumsum(0) / torch.arange(1, len(of) + 1, device=of.device)


def _shared(value: Tensor, of: Tensor) -> Tensor:
    """`of` [n], averaged over rows of equal `value` [n], which is sorted."""
    _, group, counts = torch.unique_consecutive(value, return_inverse=True, return_counts=True)
    return (of.new_zeros(len(counts)).index_add_(0, group, of) / counts)[group]


def aurra(confidence: Rows, right: Mask) -> float:
    """The area under the response rate accuracy curve, in percent.

    The mean accuracy over all shares of the images that a model answers when it answers those of
    the largest confidence (`response_rates`): 100 where all are right; the accuracy where
    confidence says nothing.

    - `confidence` [n]; `right` [n]: whether the image is classified correctly

    **Raises** ValueError for no image, other lengths, and confidences that are not finite.
    **Source**: Hendrycks et al. 2019 (arXiv 1907.07174), section 4.

    >>> aurra(torch.tensor([0.9, 0.6]), torch.tensor([True, False]))
    75.0
    """
    return float(response_rates(confidence, right).mean())


def detection_aupr(outliers: Float[Tensor, " m"], inliers: Rows) -> float:
    """The area under the precision-recall curve of finding outliers by a score, in percent.

    The average precision: the sum over thresholds of precision times the rise of recall; equal
    scores share a threshold. A score that says nothing has the outliers' share of all images.

    - `outliers` [m], `inliers` [n]: scores, larger for an outlier, e.g. minus `max_softmax`

    **Raises** ValueError for no image of a kind, and scores that are not finite.
    **Source**: Hendrycks et al. 2019 (arXiv 1907.07174), section 4: out-of-distribution images are
    the positive ones.

    >>> detection_aupr(torch.tensor([0.9, 0.2]), torch.tensor([0.5, 0.1]))
    83.33333333333333
    """
    for name, scores in (("outliers", outliers), ("inliers", inliers)):
        _check_scores(scores, name)
    scores = torch.cat([outliers, inliers])
    value, order = scores.sort(descending=True)
    positive = order < len(outliers)
    last = torch.cat([value.diff() != 0, value.new_ones(1, dtype=torch.bool)])
    found = positive.double().cumsum(0)[last]
    precision = found / (last.nonzero()[:, 0] + 1)
    rise = found.diff(prepend=found.new_zeros(1)) / len(outliers)
    return 100 * float((precision * rise).sum())


def _check(confidence: Tensor, right: Tensor) -> None:
    _check_scores(confidence, "confidence")
    if right.shape != confidence.shape:
        raise bad_value(
            "right", f"have one entry for each of the {len(confidence)} images", tuple(right.shape)
        )


def _check_scores(scores: Tensor, argument: str) -> None:
    if scores.ndim != 1 or not len(scores):
        raise bad_value(argument, "hold one number for each image", f"shape {tuple(scores.shape)}")
    if not bool(scores.isfinite().all()):
        raise bad_value(argument, "be finite", "NaN or infinity")
