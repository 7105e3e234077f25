"""What makes a model cheap to differentiate: device, memory format and precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from notbugs.models.classifier import Classifier


def prepare(
    model: Classifier, device: torch.device | str, *, channels_last: bool | None = None
) -> Classifier:
    """Moves the model itself (not a copy) to `device`, and returns it.

    Args:
        model: any classifier.
        device: for example "cpu" or "cuda".
        channels_last: the memory format of convolutions' weights, which the activations
            then follow. None takes channels-last on CUDA, where it is faster, and leaves
            the format alone elsewhere.
    """
    place = torch.device(device)
    if channels_last is None:
        channels_last = place.type == "cuda"
    model.to(place)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def half(f: Callable[[Tensor], Tensor], precision: str) -> Callable[[Tensor], Tensor]:
    """`f` run under bf16 autocast with float32 results, or `f` itself for "float32".

    Args:
        f: a model, or one of its methods such as `embed`; images in, a tensor out.
        precision: "float32" or "bf16".
    """
    if precision == "float32":
        return f

    def lowered(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return f(x).float()

    return lowered
