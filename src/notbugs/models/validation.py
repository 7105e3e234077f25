"""Checks of a model: its type, precision, classes and gradients."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_type, bad_value
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.models.classifier import Classifier

PRECISIONS = (torch.float32, torch.float64)
"""The dtypes of models: attacks distinguish logits that are equal in half precision."""
WITHOUT_GRADIENTS = (
    "Models in int8, of hard decisions, or with no_grad or detach inside have none: use "
    "square(norm, eps) or hop_skip_jump(norm), which need none, or the model before its "
    "conversion."
)


def check_classifier(model: object) -> None:
    """Refuses what is no classifier; a plain module only where no images tell the rest."""
    if isinstance(model, nn.Module) and not isinstance(model, Classifier):
        raise bad_type(
            "model",
            "a Classifier where images are no tensors",
            model,
            "Give the images as a tensor [n, c, h, w] (torch.from_numpy), or use "
            "wrap(module, images).",
        )
    if not isinstance(model, Classifier):
        raise bad_type(
            "model", "a torch module or a Classifier", model, "Use wrap(module, images)."
        )


def check_precision(model: nn.Module, argument: str = "model") -> None:
    """Refuses a model that computes in half precision, and one made in inference mode."""
    dtype = dtype_of(model)
    if dtype is not None and dtype not in PRECISIONS:
        raise bad_value(
            argument,
            "compute in float32 or float64",
            f"{dtype}",
            f"Use {argument}.float(); attacks use bf16 by themselves where it is faster.",
        )
    check_ordinary(model, argument)


def check_ordinary(model: nn.Module, argument: str = "model") -> None:
    """Refuses a model made in inference mode: torch cannot differentiate through its weights."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise bad_value(
                argument,
                "have weights that can be differentiated through",
                f"'{name}', made inside torch.inference_mode()",
                f"Make it outside, or take copy.deepcopy({argument}) outside.",
            )


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's normalisation or first weight; None without any."""
    if isinstance(model, Classifier):
        return model.mean.dtype
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def check_fits(model: Classifier, data: ImageData, argument: str = "data") -> None:
    """Refuses data of another image shape or number of classes than the model's."""
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


def check_loss(classes: int, least: int, method: str) -> None:
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
    reason = why_no_gradient(model.logits, x)
    if reason is not None:
        raise bad_value(
            "model",
            f"give logits that can be differentiated by the image, for {method}",
            f"logits without gradients{reason}",
            WITHOUT_GRADIENTS,
        )


def why_no_gradient(function: Callable[[Images], Tensor], x: Images) -> str | None:
    """Why the function has no gradient with respect to `x`, "" if unknown; None where it has one.

    A backward pass also finds operators without a derivative, such as those in int8.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        value = function(leaf)
        if not value.requires_grad:
            return ""
        try:
            torch.autograd.grad(value.sum(), leaf)
        except (RuntimeError, NotImplementedError) as error:
            return f" ({str(error).splitlines()[0]})"
    return None
