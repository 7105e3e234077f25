"""Device, memory format, precision and compilation, which decide the cost of a gradient."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from notbugs.core.errors import unknown_name
from notbugs.models.classifier import Classifier

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""The modes of `torch.compile`; "reduce-overhead" and "max-autotune" use CUDA graphs on a GPU."""


FEWEST_CHANNELS = 8
"""Input channels from which strided 1x1 convolutions are safe in channels-last memory."""
LARGE = 28
"""Height or width in pixels from which channels-last is faster on a CPU too."""


def prepare(
    model: Classifier, device: torch.device | str, *, channels_last: bool | None = None
) -> Classifier:
    """Moves `model` in place to `device`, and returns it.

    Args:
        model: any classifier.
        device: for example "cpu" or "cuda".
        channels_last: the memory format of convolutions' weights, which the activations
            then follow. None: channels-last on CUDA, and elsewhere for all but the
            smallest images. Models that a CPU cannot train in channels-last memory
            (`_breaks_channels_last`) keep torch's default format there.
    """
    target = torch.device(device)
    model.to(target)
    if channels_last is None:
        channels_last = target.type == "cuda" or max(model.shape[1:]) >= LARGE
    if target.type == "cpu" and _breaks_channels_last(model):
        model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    elif channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def _breaks_channels_last(model: nn.Module) -> bool:
    """Whether the weights' gradient may corrupt a CPU's memory in channels-last format.

    Observed in torch 2.13 on a CPU without AVX-512: strided 1 x 1 convolutions of 2, 4 or
    6 input channels, such as the shortcuts of very narrow residual nets, abort the process.
    """
    return any(
        isinstance(m, nn.Conv2d)
        and m.kernel_size == (1, 1)
        and max(m.stride) > 1
        and m.in_channels < FEWEST_CHANNELS
        for m in model.modules()
    )


def check_mode(mode: str | None) -> None:
    """Refuses an unknown compilation mode; None means no compilation."""
    if mode is not None and mode not in COMPILE_MODES:
        raise unknown_name("compile", mode, COMPILE_MODES)


def compiled(f: Callable[[Tensor], Tensor], mode: str | None) -> Callable[[Tensor], Tensor]:
    """`f` compiled by torch at the first call with each shape; `f` itself if `mode` is None.

    Args:
        f: a module or a function of a batch.
        mode: one of `COMPILE_MODES`, or None.

    Raises:
        ValueError: an unknown mode.
    """
    check_mode(mode)
    if mode is None:
        return f
    return torch.compile(f, mode=mode, dynamic=False)


def half(f: Callable[[Tensor], Tensor], precision: str) -> Callable[[Tensor], Tensor]:
    """`f` under bf16 autocast with float32 results, or `f` itself for "float32".

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
