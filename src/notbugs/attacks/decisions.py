"""Attacks that see decisions alone: asking for them, and moving by them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.types import Images, Keys, Labels, Logits, Mask, Rows
from notbugs.engine import L2, AbstractNorm, Linf
from notbugs.models.decision import classified_as, misclassified, predicted

BLOCK = 32
"""Directions of a row that are asked about in one forward pass, whatever the batch."""
JUMPS = 20
"""Lengths of a jump, each half the one before, tried before a row stays where it is."""


@dataclass
class Oracle:
    """The decisions of a model, counted: True where a row has reached its goal."""

    logits: Callable[[Images], Logits]
    targeted: bool
    forwards: int = 0

    def __call__(self, x: Images, goal: Labels) -> Mask:
        """Whether each row of `x` has reached its goal: left that class, or reached it.

        A decision that hangs on rounding counts as not reached: it may differ elsewhere.
        """
        self.forwards += len(x)
        logits = self.logits(x)
        return classified_as(logits, goal) if self.targeted else misclassified(logits, goal)

    def classes(self, x: Images) -> Labels:
        """The decisions, counted."""
        self.forwards += len(x)
        return predicted(self.logits(x))


def drawn(keys: Keys, shape: tuple[int, ...], norm: AbstractNorm) -> Tensor:
    """Random directions of L2 length 1, [n, draws, ...]: normal, for Linf from the cube."""
    if isinstance(norm, Linf):
        u = 2 * random.uniform(keys, shape) - 1
    else:
        u = random.normal(keys, shape)
    return L2().steepest(u.flatten(0, 1)).reshape(u.shape)


def jumped(ask: Oracle, at: Images, uphill: Images, length: Rows, goal: Labels) -> Images:
    """The longest of ever shorter jumps that stays adversarial, else the point itself."""
    after, left = at, torch.arange(len(at), device=at.device)
    for halving in range(JUMPS):
        step = rows.expand(length[left] / 2**halving, at[left])
        ahead = (at[left] + step * uphill[left]).clamp(0, 1)
        hit = ask(ahead, goal[left])
        after = after.index_copy(0, left[hit], ahead[hit])
        left = left[~hit]
        if not len(left):
            break
    return after
