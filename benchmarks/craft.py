"""What is measured: an attack behind one signature, and what all libraries are told alike."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from notbugs.models import frozen

Craft = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, x, y) -> x_adv; y are the true classes, or the wanted ones of a targeted attack."""


@dataclass(frozen=True)
class Setting:
    """A PGD run; `eps` and `step_size` in pixel units of [0, 1]."""

    norm: str
    eps: float
    steps: int
    step_size: float
    random_start: bool


def on_frozen(craft: Craft) -> Craft:
    """The same attack after `requires_grad_(False)` on every parameter."""

    def frozen_craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with frozen(model):
            return craft(model, x, y)

    return frozen_craft
