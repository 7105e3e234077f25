"""Batch norms that normalise by the whole batch, also where several processes share it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import processes

_OWN = F.batch_norm


@contextmanager
def synced() -> Generator[None, None, None]:
    """Lets batch norms in train mode use the statistics of all processes' rows together.

    So that a step of several processes is that of one. It stands in for torch's own function
    while the block runs, by which layers built on batch norms (with an activation of their
    own, for example) are served as well. `torch.nn.SyncBatchNorm` does the like on a GPU
    alone, takes the place of modules, and has no second derivative. Nothing changes where
    there is one process.
    """
    if processes.count() == 1:
        yield
        return
    F.batch_norm = _batch_norm
    try:
        yield
    finally:
        F.batch_norm = _OWN


class _Total(torch.autograd.Function):
    """The sum over processes; what each of them loses by it comes back summed as well."""

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
        return _OWN(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.float() if input.itemsize < 4 else input
    dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1] + [1] * (x.ndim - 2)
    own = x.new_tensor([x.numel() / x.shape[1]])
    sums = _Total.apply(torch.cat([x.sum(dim=dims), own]))
    rows = sums[-1].detach()
    mean = sums[:-1] / rows
    away = x - mean.reshape(shape)
    variance = _Total.apply((away * away).sum(dim=dims)) / rows
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            unbiased = variance * (rows / (rows - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    made = away * scale.reshape(shape)
    return (made if bias is None else made + bias.reshape(shape)).to(input.dtype)
