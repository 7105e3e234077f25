"""Models held still: a fixed mode and no parameter gradients, restored exactly on exit."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

M = TypeVar("M", bound=nn.Module)


@contextmanager
def frozen(model: M, *, training: bool = False) -> Generator[M, None, None]:
    """Holds `model` in one mode, without parameter gradients, while the block runs.

    Gradients still flow through the model to its inputs; none are computed for, or left
    on, its parameters. On exit, also after an exception, every module gets its own
    training flag back and every parameter its own `requires_grad`; `.grad` is not touched.
    Blocks may be nested.

    Args:
        model: any module; it is changed in place for the duration of the block.
        training: False for eval mode. True for train mode, in which batch norms normalise
            by the batch but neither running statistics nor any other buffer keep a change.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> with frozen(net) as still:
        ...     any(p.requires_grad for p in still.parameters())
        False
    """
    with ExitStack() as stack:
        stack.enter_context(_mode(model, training))
        stack.enter_context(_without_gradients(model))
        if training:
            stack.enter_context(buffers_kept(model))
        yield model


@contextmanager
def _mode(model: nn.Module, training: bool) -> Generator[None, None, None]:
    # The attribute, not train(): one flag a module is what can be restored exactly.
    # Frozen TorchScript has no mode.
    flags = [(m, m.training) for m in model.modules() if hasattr(m, "training")]
    try:
        for module, _ in flags:
            module.training = training
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def _without_gradients(model: nn.Module) -> Generator[None, None, None]:
    # Weights made in inference mode bear no gradients, and take no flag outside it.
    tracked = [p for p in model.parameters() if p.requires_grad and not p.is_inference()]
    try:
        for parameter in tracked:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in tracked:
            parameter.requires_grad_(True)


@contextmanager
def buffers_kept(model: nn.Module) -> Generator[None, None, None]:
    """Lets no buffer keep a change, e.g. batch norms' running statistics, while the block runs.

    Batch norms in train mode normalise by the batch as ever.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    others = [m for m in model.modules() if not isinstance(m, _BatchNorm)]
    saved = [
        (module, name, buffer, buffer.detach().clone(), buffer._version)
        for module in others
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        for norm in norms:  # in train mode this alone keeps all three buffers out of reach
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, name, buffer, copy, version in saved:
            _restore(module, name, buffer, copy, version)


def _restore(module: nn.Module, name: str, buffer: Tensor, copy: Tensor, version: int) -> None:
    # Untouched buffers are left alone: writing to them would spoil graphs that saved them.
    if buffer._version != version:
        with torch.no_grad():
            buffer.copy_(copy)
    if getattr(module, name) is not buffer:
        setattr(module, name, buffer)
