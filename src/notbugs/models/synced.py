"""Batch norms that normalise by the whole batch, also where several processes share it."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from notbugs.core import processes


@contextmanager
def synced(model: nn.Module) -> Generator[None, None, None]:
    """Lets batch norms in train mode use the statistics of all processes' rows together.

    So that a step of several processes is that of one. `torch.nn.SyncBatchNorm` does the
    same on a GPU alone, and in place of the modules themselves. Nothing changes where there
    is one process.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if processes.count() == 1:
        norms = []
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Total(torch.autograd.Function):
    """The sum over processes; what each of them loses by it comes back summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return processes.total(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return processes.total(grads[0].clone())


def _normalised(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training and norm.running_mean is not None:
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
        )
    fine = x.float() if x.itemsize < 4 else x
    dims = [d for d in range(x.ndim) if d != 1]
    own = fine.new_tensor([x.numel() / x.shape[1]])
    sums = _Total.apply(torch.cat([fine.sum(dim=dims), own]))
    rows = sums[-1].detach()
    mean = sums[:-1] / rows
    shape = [1, -1] + [1] * (x.ndim - 2)
    away = fine - mean.reshape(shape)
    variance = _Total.apply((away * away).sum(dim=dims)) / rows
    if norm.training and norm.track_running_stats and norm.running_mean is not None:
        _remember(norm, mean.detach(), variance.detach() * (rows / (rows - 1).clamp(min=1)))
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    made = away * scale.reshape(shape)
    return (made + norm.bias.reshape(shape) if norm.affine else made).to(x.dtype)


@torch.no_grad()
def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics, as torch's own batch norms do."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum or 0.0)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum or 0.0)
