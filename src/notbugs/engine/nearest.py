"""What the step rules of minimum-norm methods share."""

import math

from torch import Tensor

from notbugs.engine.rules import StepInfo


def cosine(first: float, last: float, info: StepInfo) -> float:
    """A value that falls from `first` to `last` over the steps along half a cosine."""
    done = info.step / max(info.max_steps - 1, 1)
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))


def free(grad: Tensor, theta: Tensor) -> Tensor:
    """`grad` without the entries along which descent would leave the pixel box at once."""
    blocked = ((theta <= 0) & (grad > 0)) | ((theta >= 1) & (grad < 0))
    return grad.masked_fill(blocked, 0)
