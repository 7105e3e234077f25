"""Synchronised batch norm: statistics of the whole batch where processes share it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import processes

_ORIGINAL = F.batch_norm


@contextmanager
def synced() -> Generator[None, None, None]:
    """Makes batch norms in train mode use the statistics of all processes' rows together.

    A step of several processes is then that of one. The block replaces torch's function
    `batch_norm`, so it also works in layers built on batch norm (with an activation included,
    for example). `torch.nn.SyncBatchNorm` works on GPUs only, replaces modules, and has no
    second derivative. With one process nothing changes.
    """
    if processes.count() == 1:
        yield
        return
    F.batch_norm = _batch_norm
    try:
        yield
    finally:
        F.batch_norm = _ORIGINAL


class _Total(torch.autograd.Function):
    """The sum over processes; the gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return processes.total(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Total.apply(grads[0])  # so that it can be differentiated again


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch's function, with the statistics of all processes."""
    if not training:
        return _ORIGINAL(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.float() if input.itemsize < 4 else input
    dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1] + [1] * (x.ndim - 2)
    local_count = x.new_tensor([x.numel() / x.shape[1]])
    sums = _Total.apply(torch.cat([x.sum(dim=dims), local_count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = x - mean.reshape(shape)
    variance = _Total.apply((centred * centred).sum(dim=dims)) / count
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            unbiased = variance * (count / (count - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    output = centred * scale.reshape(shape)
    return (output if bias is None else output + bias.reshape(shape)).to(input.dtype)
