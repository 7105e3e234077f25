"""An exponential moving average of a model's weights."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """A moving average of weights and buffers: decay * average + (1 - decay) * weights.

    For the first 1 / (1 - decay) steps it is the plain mean, so that the initial weights do not
    count.

    **Source**: Polyak & Juditsky 1992 for the idea; Gowal et al. 2020 (arXiv 2010.03593),
    section 4.2, for adversarial training (decay 0.995 there, per step).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts at the model's weights."""
        self.model, self.decay, self.steps = model, decay, 0
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average by the current weights."""
        self.steps += 1
        keep = min(self.decay, 1 - 1 / self.steps)
        for name, current in self.model.state_dict().items():
            average = self.state[name]
            if average.is_floating_point():
                average.lerp_(current, 1 - keep)
            else:
                average.copy_(current)

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """Gives the model the averaged weights while the block runs."""
        current = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.state)
        try:
            yield
        finally:
            self.model.load_state_dict(current)

    def begin(self, state: dict[str, Tensor], steps: int) -> None:
        """Restores the average from a checkpoint."""
        self.steps = steps
        for name, average in self.state.items():
            average.copy_(state[name])
