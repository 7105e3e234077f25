"""What a model says of images, and whether the two fit each other."""

import torch
from torch import Tensor

from notbugs.attacks import predicted_clean
from notbugs.attacks.door import check_classifier
from notbugs.core import processes
from notbugs.core.errors import bad_value, check_count, check_labels
from notbugs.core.memory import keep_freed_memory
from notbugs.core.types import Labels, Mask
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen


def accuracy(
    model: Classifier, data: ImageData, labels: Labels | None = None, *, batch_size: int = 1024
) -> float:
    """Percent of images classified as `labels` (by default the data's own)."""
    check_fits(model, data)
    labels = data.labels if labels is None else labels
    check_labels(labels, rows=len(data), classes=model.classes, argument="labels")
    right = correct(model, data, labels, batch_size=batch_size)
    return 100 * int(right.sum()) / len(data)


def correct(
    model: Classifier, data: ImageData, labels: Labels, *, batch_size: int, samples: int = 1
) -> Mask:
    """Which images are classified as `labels` in more than half of `samples` passes, [n]."""
    said = [predictions(model, data, batch_size=batch_size) for _ in range(samples)]
    return (torch.stack(said) == labels.cpu()).float().mean(dim=0) > 0.5


def predictions(model: Classifier, data: ImageData, *, batch_size: int = 1024) -> Tensor:
    """The predicted class of every image, [n], on the CPU; the model is left as it was."""
    check_fits(model, data)
    check_count(batch_size, "batch_size")
    keep_freed_memory()

    def said(index: Tensor) -> tuple[Tensor]:
        return (predicted_clean(model, data.pixels(index).to(model.device)).cpu(),)

    with frozen(model):
        return processes.in_batches(len(data), batch_size, said)[0]


def check_fits(model: Classifier, data: ImageData, argument: str = "data") -> None:
    """Refuses data whose images or classes are not the model's, and what is no model."""
    check_classifier(model)
    if tuple(data.shape) != tuple(model.shape):
        raise bad_value(
            argument,
            f"hold images of the model's shape {tuple(model.shape)}",
            f"{tuple(data.shape)} in '{data.name}'",
            "Use the dataset the model was made for, or resize the images.",
        )
    if data.classes != model.classes:
        raise bad_value(
            argument,
            f"have the model's {model.classes} classes",
            f"{data.classes} in '{data.name}'",
            "Use the dataset the model was made for.",
        )
