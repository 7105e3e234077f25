"""Freezes a model in a block: a fixed mode and no parameter gradients, restored on exit."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

M = TypeVar("M", bound=nn.Module)


@contextmanager
def frozen(model: M, *, training: bool = False) -> Generator[M, None, None]:
    """Keeps `model` in one mode, without parameter gradients, while the block runs.

    Gradients still flow through the model to its inputs; none are computed for, or left
    on, its parameters. On exit, also after an exception, every module's
    training flag and every parameter's `requires_grad` are restored; `.grad` is not touched.
    Blocks may be nested.

    Args:
        model: any module; changed in place while the block runs.
        training: False for eval mode. True for train mode, in which batch norms normalise
            by the batch, but running statistics and other buffers are restored.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> with frozen(net) as model:
        ...     any(p.requires_grad for p in model.parameters())
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
    # Not train(): the flags of single modules can be restored exactly.
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
    # Weights made in inference mode have no gradients, and no flag can be set on them.
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
    """Restores all buffers, e.g. batch norms' running statistics, after the block.

    Batch norms in train mode still normalise by the batch.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    others = [m for m in model.modules() if not isinstance(m, _BatchNorm)]
    saved = [
        (module, name, buffer, buffer.detach().clone(), buffer._version)
        for module in others
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        for norm in norms:  # in train mode none of their buffers is then updated
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, name, buffer, copy, version in saved:
            _restore(module, name, buffer, copy, version)


def _restore(module: nn.Module, name: str, buffer: Tensor, copy: Tensor, version: int) -> None:
    # Unchanged buffers are not written to: that would invalidate graphs that saved them.
    if buffer._version != version:
        with torch.no_grad():
            buffer.copy_(copy)
    if getattr(module, name) is not buffer:
        setattr(module, name, buffer)
