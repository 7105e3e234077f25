"""What a model says of images: logits that are checked, classes, and votes of several passes."""

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

    - `logits_of`: the model's logits where they are cheaper to have than by `model.logits`

    **Raises** ValueError where the model gives no logits of shape (n, classes), or one that
    is not finite: what breaks such a model says nothing.
    """
    with torch.no_grad():
        logits = (logits_of or model.logits)(x)
    check_logits(logits, (len(x), model.classes))
    return logits


@prepared("x")
def predicted_clean(model: Classifier, x: Images) -> Labels:
    """The class that leads each clean image, [n] (-1: a tie); refuses what `clean_logits` does."""
    with frozen(model):
        return predicted(clean_logits(model, x))


def check_logits(logits: object, wanted: tuple[int, int]) -> None:
    """Refuses anything but finite floating numbers of the shape `wanted`."""
    kind = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        raise bad_value(
            "model",
            f"give logits of shape {wanted}, one row an image and one column a class",
            kind,
            remedy_for(logits, wanted),
        )
    if not logits.is_floating_point():
        raise bad_value(
            "model", "give floating logits", f"{logits.dtype}", "Return scores, not decisions."
        )
    odd = ~logits.isfinite().all(dim=1)
    if bool(odd.any()):
        row = int(odd.nonzero()[0, 0])
        raise bad_value(
            "model",
            "give finite logits for clean images",
            f"{'NaN' if bool(logits[row].isnan().any()) else 'infinity'}, first in row {row}",
            "Its weights may come from a training that diverged: load or train another.",
        )
