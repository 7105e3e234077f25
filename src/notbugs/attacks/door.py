"""What every attack asks of a model, and of the call, before it does any work."""

from collections.abc import Callable

import torch
from torch import Tensor

from notbugs.core.errors import bad_type, bad_value, check_images, check_labels, check_targets
from notbugs.core.types import Images, Labels, Logits
from notbugs.models import Classifier
from notbugs.models.decision import predicted


def check_call(model: Classifier, x: Tensor, y: Tensor | None, targets: Tensor | None) -> None:
    """Refuses what is no classifier, no batch of images, or no labels for them."""
    check_classifier(model)
    check_images(x)
    if model.mean.dtype not in (torch.float32, torch.float64):
        raise bad_value(
            "model",
            "compute in float32 or float64",
            f"{model.mean.dtype}",
            "Use model.float(); on hardware that has bf16 the attack takes it by itself.",
        )
    if torch.promote_types(x.dtype, model.mean.dtype) != model.mean.dtype:
        raise bad_value(
            "x",
            f"be no finer than the model's {model.mean.dtype}",
            f"{x.dtype}",
            f"Use x.to({model.mean.dtype}), or model.to({x.dtype}).",
        )
    for name, labels in (("y", y), ("targets", targets)):
        if labels is not None:
            check_labels(labels, rows=len(x), classes=model.classes, argument=name)
    if y is not None and targets is not None:
        check_targets(targets, y)
    if y is None and targets is None:
        raise bad_value("y", "be given", None, "Pass true labels, or `targets`.")


def check_classifier(model: object) -> None:
    """Refuses a bare module, which does not say how it normalises."""
    if not isinstance(model, Classifier):
        raise bad_type(
            "model",
            "a notbugs Classifier",
            model,
            "Use wrap(module, shape=..., classes=..., embedding=..., mean=..., std=...).",
        )


def check_classes(classes: int, least: int, method: str) -> None:
    """Refuses a model of fewer classes than the method's loss is defined for."""
    if classes < least:
        raise bad_value(
            "model",
            f"have at least {least} classes for {method}",
            classes,
            "Its loss is undefined for fewer: use loss=margin or cross_entropy.",
        )


def check_gradients(model: Classifier, x: Images, method: str) -> None:
    """Refuses a model whose logits cannot be differentiated by the image.

    **Raises** ValueError, which advises Square.
    """
    with torch.enable_grad():
        logits = model.logits(x.detach().clone().requires_grad_())
    if not logits.requires_grad:
        raise bad_value(
            "model",
            f"give logits that can be differentiated by the image, for {method}",
            "logits without gradients",
            "Use square(norm, eps) or hop_skip_jump(norm), which need none, or remove "
            "no_grad/detach from the model.",
        )


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


def predicted_clean(model: Classifier, x: Images) -> Labels:
    """The class that leads each clean image, [n] (-1: a tie); refuses what `clean_logits` does."""
    return predicted(clean_logits(model, x))


def check_logits(logits: object, wanted: tuple[int, int]) -> None:
    """Refuses anything but finite floating numbers of the shape `wanted`."""
    kind = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        raise bad_value(
            "model",
            f"give logits of shape {wanted}, one row an image and one column a class",
            kind,
            "Return a plain tensor, the batch first, and check `classes`; `wrap` tries it out.",
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
