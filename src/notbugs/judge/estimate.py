"""What an evaluation will cost, said before it starts."""

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


@prepared()
def estimate(
    model: Classifier, data: ImageData, attacks: Sequence[AbstractAttack], *, fast: Fast = "auto"
) -> float:
    """Seconds that `attacks` take on `data` if every image stands to the end: an upper bound.

    A forward pass, and one with a gradient, are timed on a few images; the passes of each
    attack are known. Images that are broken early make it faster. Attacks that need gradients which
    the model does not have cost nothing.

    **Raises** ValueError for a model that `evaluate` refuses.
    """
    x = data.pixels(slice(0, ROWS)).to(model.device)
    total = 0.0
    with frozen(model):
        for attack in usable(model, data, attacks)[0]:
            big = data.pixels(slice(0, 128)).to(model.device)
            low = attack.requirements.low_precision
            logits = copy_to_attack(model, big, attack.passes, fast=fast, low=low) or model.logits
            # One that gives up spends at most half on it, and then perhaps all in its check.
            most = 1.5 if attack.without_giving_up() != attack else 1.0
            total += most * attack.passes * _seconds(logits, x, attack.requirements.gradients)
    return total * len(data) / len(x)


def _seconds(logits: Callable[[Images], Logits], x: Images, grad: bool) -> float:
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
