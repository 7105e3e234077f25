"""The cost of an evaluation, estimated before it starts."""

import time
from collections.abc import Callable, Sequence

import torch

from notbugs.attacks import AbstractAttack
from notbugs.core.types import Images, Logits
from notbugs.data import ImageData
from notbugs.judge.usable import usable
from notbugs.models import Classifier, Fast, frozen, prepared
from notbugs.models.folded_copy import copy_to_attack

ROWS = 32
"""Images on which passes are timed."""


@prepared()
def estimate(
    model: Classifier, data: ImageData, attacks: Sequence[AbstractAttack], *, fast: Fast = "auto"
) -> float:
    """Seconds that `attacks` take on `data` if no image is broken: an upper bound.

    Passes with and without a gradient are timed on a few images, and multiplied by the number
    of passes of each attack. Attacks that need gradients cost nothing on a model without them.

    **Raises** ValueError for a model that `evaluate` refuses.
    """
    x = data.pixels(slice(0, ROWS)).to(model.device)
    total = 0.0
    with frozen(model):
        for attack in usable(model, data, attacks)[0]:
            batch = data.pixels(slice(0, 128)).to(model.device)
            low = attack.requirements.low_precision
            logits = copy_to_attack(model, batch, attack.passes, fast=fast, low=low) or model.logits
            # At most half the budget before giving up, and all of it again in the check.
            budgets = 1.5 if attack.without_giving_up() != attack else 1.0
            total += budgets * attack.passes * _seconds(logits, x, attack.requirements.gradients)
    return total * len(data) / len(x)


def _seconds(logits: Callable[[Images], Logits], x: Images, grad: bool) -> float:
    """Seconds of a pass of the images, the shortest of three."""
    times: list[float] = []
    for _ in range(4):
        began = time.perf_counter()
        with torch.set_grad_enabled(grad):
            theta = x.clone().requires_grad_(grad)
            value = logits(theta).sum()
            if grad:
                torch.autograd.grad(value, theta)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
