"""The predictions of a model, and its accuracy."""

import torch
from torch import Tensor

from notbugs.attacks.neighbours import ROWS, check_rows
from notbugs.core import processes
from notbugs.core.errors import check_count, check_labels
from notbugs.core.global_rng import fork_global_rng
from notbugs.core.types import Labels, Mask
from notbugs.data import ImageData, rows_at_once
from notbugs.models import Classifier, frozen, predicted_clean, prepared
from notbugs.models.predictions import clean_logits


@prepared()
def accuracy(
    model: Classifier, data: ImageData, labels: Labels | None = None, *, batch_size: int = 1024
) -> float:
    """Percent of images classified as `labels` (by default the data's own).

    **Raises** ValueError for a model whose logits of an image depend on its neighbours.
    """
    with frozen(model), fork_global_rng(model.device, "accuracy"):
        few = data.pixels(slice(0, ROWS)).to(model.device)
        check_rows(model, few, clean_logits(model, few))
    return percent_right(model, data, labels, batch_size=batch_size)


def percent_right(
    model: Classifier, data: ImageData, labels: Labels | None = None, *, batch_size: int = 1024
) -> float:
    """`accuracy`, of a model whose logits may depend on the batch, as in training."""
    labels = data.labels if labels is None else labels
    check_labels(labels, rows=len(data), classes=model.classes, argument="labels")
    right = correct(model, data, labels, batch_size=batch_size)
    return 100 * int(right.sum()) / len(data)


def correct(
    model: Classifier, data: ImageData, labels: Labels, *, batch_size: int, samples: int = 1
) -> Mask:
    """Which images are classified as `labels` in more than half of `samples` passes, [n]."""
    passes = [predictions(model, data, batch_size=batch_size) for _ in range(samples)]
    return (torch.stack(passes) == labels.cpu()).float().mean(dim=0) > 0.5


@prepared()
def predictions(model: Classifier, data: ImageData, *, batch_size: int = 1024) -> Labels:
    """The predicted class of every image, [n], on the CPU; the model is left as it was.

    - `batch_size`: at most so many at a time, fewer of large images
    """
    check_count(batch_size, "batch_size")

    def predict(index: Tensor) -> tuple[Tensor]:
        return (predicted_clean(model, data.pixels(index).to(model.device)).cpu(),)

    size = rows_at_once(data.shape, batch_size, model.device, passes=4)
    with frozen(model):
        return processes.in_batches(len(data), size, predict)[0]
