"""Logits and predictions for clean images, with checks."""

from collections.abc import Callable

import torch
from torch import Tensor

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Labels, Logits
from notbugs.models.classifier import Classifier
from notbugs.models.decision import predicted
from notbugs.models.frozen import frozen
from notbugs.models.outputs import remedy_for
from notbugs.models.prepared import prepared


def clean_logits(
    model: Classifier, x: Images, logits_of: Callable[[Images], Logits] | None = None
) -> Logits:
    """The logits of clean images, [n, k], computed without gradients.

    - `logits_of`: a cheaper function with the same logits as `model.logits`

    **Raises** ValueError where the logits do not have shape (n, classes) or are not finite:
    attacks on such a model are meaningless.
    """
    with torch.no_grad():
        logits = (logits_of or model.logits)(x)
    check_logits(logits, (len(x), model.classes))
    return logits


@prepared("x")
def predicted_clean(model: Classifier, x: Images) -> Labels:
    """The predicted class of each clean image, [n] (-1: a tie); raises as `clean_logits`."""
    with frozen(model):
        return predicted(clean_logits(model, x))


def check_logits(logits: object, wanted: tuple[int, int]) -> None:
    """Refuses anything but finite floating numbers of the shape `wanted`."""
    received = (
        f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    )
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        raise bad_value(
            "model",
            f"give logits of shape {wanted}, one row an image and one column a class",
            received,
            remedy_for(logits, wanted),
        )
    if not logits.is_floating_point():
        raise bad_value(
            "model", "give floating logits", f"{logits.dtype}", "Return scores, not decisions."
        )
    non_finite = ~logits.isfinite().all(dim=1)
    if bool(non_finite.any()):
        row = int(non_finite.nonzero()[0, 0])
        raise bad_value(
            "model",
            "give finite logits for clean images",
            f"{'NaN' if bool(logits[row].isnan().any()) else 'infinity'}, first in row {row}",
            "Its weights may come from a training that diverged: load or train another.",
        )
