"""What the step rules of minimum-norm methods share."""

import math

from notbugs.engine.rules import StepInfo


def cosine(first: float, last: float, info: StepInfo) -> float:
    """Cosine decay from `first` to `last` over the steps."""
    done = info.step / max(info.max_steps - 1, 1)
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
