"""An exponential moving average of a model's weights."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Weights and buffers averaged over steps: each step, `decay` of the old and the rest new.

    Until 1 / (1 - decay) steps are done it is the plain mean of them, so that the initial
    weights do not linger.

    **Source**: Polyak & Juditsky 1992 for the idea; Gowal et al. 2020 (arXiv 2010.03593),
    section 4.2, for adversarial training (decay 0.995 there, per step).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begins at the model's weights."""
        self.model, self.decay, self.steps = model, decay, 0
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now."""
        self.steps += 1
        keep = min(self.decay, 1 - 1 / self.steps)
        for name, now in self.model.state_dict().items():
            held = self.state[name]
            if held.is_floating_point():
                held.lerp_(now, 1 - keep)
            else:
                held.copy_(now)

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """Gives the model the averaged weights while the block runs."""
        own = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.state)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def begin(self, state: dict[str, Tensor], steps: int) -> None:
        """Goes on from a checkpoint's."""
        self.steps = steps
        for name, held in self.state.items():
            held.copy_(state[name])
