"""A step taken by several processes, each of which passes a part of the batch."""

import torch
from torch import Tensor, nn

from notbugs.core import processes
from notbugs.core.errors import bad_value
from notbugs.training.batch import Pass


def check_divides(batch_size: int) -> None:
    """Refuses a batch that the processes cannot share equally."""
    several = processes.count()
    if batch_size % several:
        raise bad_value(
            "batch_size",
            f"be divisible by the number of processes, {several}",
            batch_size,
            f"For example {max(batch_size // several, 1) * several}: it is shared among them.",
        )


def shared(model: nn.Module, one: Pass) -> Pass:
    """The pass whose loss and gradients are the mean over all processes.

    With equal parts of a batch, that is the loss and the gradient of the whole batch. All
    gradients travel together with the loss, in one message.
    """
    if processes.count() == 1:
        return one

    def whole() -> Tensor:
        loss = one()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(grad.reshape(-1) for grad in grads)])
        processes.total(flat).div_(processes.count())
        at = 1
        with torch.no_grad():
            for grad in grads:
                grad.copy_(flat[at : at + grad.numel()].view_as(grad))
                at += grad.numel()
        return flat[0].clone()

    return whole
