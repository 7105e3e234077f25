"""A training loop for nets that learn from images without labels."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from notbugs.core.errors import TrainingError, check_count, check_positive
from notbugs.core.types import Images
from notbugs.data import DeviceData, ImageData, batches


def fit(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Images, tuple[int, int]], Tensor],
    data: ImageData,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    device: torch.device,
    decay: bool = True,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Minimises `loss_of` by Adam.

    - `loss_of`: images [n, c, h, w] in [0, 1] and (epoch, batch), to seed its draws -> a loss []
    - `lr`: initial learning rate; with `decay` cosine decay to 0

    **Raises** ValueError for numbers out of range; TrainingError for a loss that is not finite.
    """
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_positive(lr, "lr")
    device_data, size = DeviceData(data, device), min(batch_size, len(data))
    adam = torch.optim.Adam(list(parameters), lr=lr)
    steps = epochs * -(-len(data) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps) if decay else None
    for epoch in range(epochs):
        for i, index in enumerate(batches(len(data), size, seed=seed, epoch=epoch)):
            loss = loss_of(device_data.batch(index)[0], (epoch, i))
            if not bool(loss.isfinite()):
                raise TrainingError(
                    f"The loss is {float(loss.detach())} in epoch {epoch + 1}, batch {i + 1}. "
                    f"Lower `lr` (now {lr:g})."
                )
            adam.zero_grad()
            loss.backward()
            adam.step()
            if schedule is not None:
                schedule.step()
        progress((epoch + 1) / epochs)
