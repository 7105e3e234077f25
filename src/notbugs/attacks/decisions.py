"""Decision-based attacks: queries of the model's decision, and steps that use only that."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.types import Images, Keys, Labels, Logits, Mask, Rows
from notbugs.engine import L2, AbstractNorm, Linf
from notbugs.models.decision import classified_as, misclassified, predicted

BLOCK = 32
"""Directions per row that are queried in one forward pass."""
JUMPS = 20
"""Number of step sizes tried, each half the one before, before a row does not move."""


@dataclass
class Oracle:
    """The decisions of a model, with the queries counted in `forwards`."""

    logits: Callable[[Images], Logits]
    targeted: bool
    forwards: int = 0

    def __call__(self, x: Images, goal: Labels) -> Mask:
        """Whether each row of `x` has reached its goal, `goal` the true or the target class.

        A decision within rounding counts as not reached.
        """
        self.forwards += len(x)
        logits = self.logits(x)
        return classified_as(logits, goal) if self.targeted else misclassified(logits, goal)

    def classes(self, x: Images) -> Labels:
        """The predicted classes, counted as queries."""
        self.forwards += len(x)
        return predicted(self.logits(x))


def random_directions(keys: Keys, shape: tuple[int, ...], norm: AbstractNorm) -> Tensor:
    """Random directions of L2 length 1, [n, draws, ...]: normal, for Linf uniform in the cube."""
    if isinstance(norm, Linf):
        u = 2 * random.uniform(keys, shape) - 1
    else:
        u = random.normal(keys, shape)
    return L2().steepest(u.flatten(0, 1)).reshape(u.shape)


def stepped(oracle: Oracle, x: Images, uphill: Images, length: Rows, goal: Labels) -> Images:
    """The point after the longest of ever shorter steps that is adversarial, else unchanged."""
    result, remaining = x, torch.arange(len(x), device=x.device)
    for halving in range(JUMPS):
        step = rows.expand(length[remaining] / 2**halving, x[remaining])
        candidate = (x[remaining] + step * uphill[remaining]).clamp(0, 1)
        adversarial = oracle(candidate, goal[remaining])
        result = result.index_copy(0, remaining[adversarial], candidate[adversarial])
        remaining = remaining[~adversarial]
        if not len(remaining):
            break
    return result
