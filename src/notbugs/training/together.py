"""Data-parallel training steps: each process takes a part of the batch."""

import torch
from torch import Tensor, nn

from notbugs.core import processes
from notbugs.core.errors import bad_value
from notbugs.training.batch import Pass


def check_divides(batch_size: int) -> None:
    """Refuses a batch that the processes cannot share equally."""
    workers = processes.count()
    if batch_size % workers:
        raise bad_value(
            "batch_size",
            f"be divisible by the number of processes, {workers}",
            batch_size,
            f"For example {max(batch_size // workers, 1) * workers}: it is shared among them.",
        )


def shared(model: nn.Module, run: Pass) -> Pass:
    """The pass whose loss and gradients are the mean over all processes.

    With equal parts of a batch, that is the loss and the gradient of the whole batch. All
    gradients and the loss are sent in one message.
    """
    if processes.count() == 1:
        return run

    def run_shared() -> Tensor:
        loss = run()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(grad.reshape(-1) for grad in grads)])
        processes.total(flat).div_(processes.count())
        offset = 1
        with torch.no_grad():
            for grad in grads:
                grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
                offset += grad.numel()
        return flat[0].clone()

    return run_shared
