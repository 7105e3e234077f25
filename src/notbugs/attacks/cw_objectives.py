"""The seven objectives that Carlini and Wagner compared, towards a class and away from one."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TypeAlias, final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.attacks.losses import at_least_float32, cross_entropy, margin
from notbugs.attacks.smooth import smooth_margin
from notbugs.core import rows
from notbugs.core.types import Images, Labels, Logits, Mask, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation
from notbugs.models.decision import rounding_tolerance

ValueOfClass: TypeAlias = Callable[[Logits, Tensor], Rows]


@dataclass(frozen=True)
class ObjectiveForm:
    """One of f1..f7 in its two forms: (logits [n, k], classes [n]) -> value [n].

    `towards` is for a target class, `away` for the true class; `flat` says whether the value
    is constant past the boundary, so that it does not support a confidence.
    """

    towards: ValueOfClass
    away: ValueOfClass
    flat: bool = False


def _bits(logits: Logits, classes: Labels) -> Rows:
    return cross_entropy(logits, classes) / log(2)


def _lead(logits: Logits, classes: Labels) -> Rows:
    """The class's probability minus the largest other one, [n]."""
    return -margin(logits.softmax(dim=1), classes)


def _own(logits: Logits, classes: Labels) -> Rows:
    return logits.softmax(dim=1).gather(1, classes[:, None])[:, 0]


def _minus_log_others(logits: Logits, classes: Labels) -> Rows:
    """-log of the probability that all other classes share, [n]; exact where it is tiny."""
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return logits.logsumexp(dim=1) - others.logsumexp(dim=1)


def _strongest_other(logits: Logits, classes: Labels) -> Tensor:
    return logits.scatter(1, classes[:, None], float("-inf")).argmax(dim=1)


def _f1_towards(z: Logits, t: Tensor) -> Rows:
    return _bits(z, t) - 1


def _f1_away(z: Logits, y: Labels) -> Rows:
    return 1 - _bits(z, y)


def _f2_towards(z: Logits, t: Tensor) -> Rows:
    return (-_lead(z, t)).relu()


def _f2_away(z: Logits, y: Labels) -> Rows:
    return _lead(z, y).relu()


def _f3_towards(z: Logits, t: Tensor) -> Rows:
    return F.softplus(-_lead(z, t)) - log(2)


def _f3_away(z: Logits, y: Labels) -> Rows:
    return F.softplus(_lead(z, y)) - log(2)


def _f4_towards(z: Logits, t: Tensor) -> Rows:
    return (0.5 - _own(z, t)).relu()


def _f4_away(z: Logits, y: Labels) -> Rows:
    return _f4_towards(z, _strongest_other(z, y))


def _f5_towards(z: Logits, t: Tensor) -> Rows:
    return cross_entropy(z, t) - log(2)


def _f5_away(z: Logits, y: Labels) -> Rows:
    return _minus_log_others(z, y) - log(2)


def _f6_away(z: Logits, y: Labels) -> Rows:
    return -smooth_margin(z, y)


def _f7_towards(z: Logits, t: Tensor) -> Rows:
    return F.softplus(smooth_margin(z, t)) - log(2)


def _f7_away(z: Logits, y: Labels) -> Rows:
    return F.softplus(-smooth_margin(z, y)) - log(2)


CW_OBJECTIVES: dict[str, ObjectiveForm] = {
    "f1": ObjectiveForm(_f1_towards, _f1_away),
    "f2": ObjectiveForm(_f2_towards, _f2_away, flat=True),
    "f3": ObjectiveForm(_f3_towards, _f3_away),
    "f4": ObjectiveForm(_f4_towards, _f4_away, flat=True),
    "f5": ObjectiveForm(_f5_towards, _f5_away),
    "f6": ObjectiveForm(smooth_margin, _f6_away),
    "f7": ObjectiveForm(_f7_towards, _f7_away),
}
"""The paper's f1..f7 by name, Z the logits, F the softmax, t the target, y the true class.

| name | towards t | away from y |
|---|---|---|
| f1 | -log2 F_t - 1 | 1 + log2 F_y |
| f2 | (max other F - F_t)+ | (F_y - max other F)+ |
| f3 | softplus(max other F - F_t) - log 2 | softplus(F_y - max other F) - log 2 |
| f4 | (1/2 - F_t)+ | (1/2 - max other F)+ |
| f5 | -log(2 F_t) | -log(2 (1 - F_y)) |
| f6 | max other Z - Z_t | Z_y - max other Z |
| f7 | softplus(max other Z - Z_t) - log 2 | softplus(Z_y - max other Z) - log 2 |

`goal` adds f6's floor at minus the confidence.

**Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section V-A; they choose f6.
**Differs from the paper**: it prints one form of each; the other is ours. f1 has the
sign with which it decreases towards the goal, and logarithms of base 2, with which it is zero
at F = 1/2. f5's argument is 2 F_t (printed: 2 F_t - 2). f6 and f7 have the values above and the
gradient of `smooth_margin`. Away from a class, it is not limited to the class that is nearest at
first (the paper tries every target instead): the mean L2 distance of an untargeted attack of
9 x 200 steps fell by 6 % on each of two MNIST networks. Towards a class, the margin's gradient
zigzags where two other classes take turns as the largest: 12 of 891 pairs of MNIST images and
classes were not reached in 9 x 200 steps with it, and with this one 11 of these were.
"""


def goal(form: str, logits: Logits, y: Labels | None, targets: Labels | None, k: float) -> Rows:
    """The objective `form` of each row with confidence `k` (its floor for f6), [n]."""
    f = CW_OBJECTIVES[form]
    if targets is not None:
        value = f.towards(logits, targets)
    elif y is not None:
        value = f.away(logits, y)
    else:
        raise KeyError("A Carlini-Wagner objective needs 'targets' or 'y' in its context.")
    if form != "f6":
        return value
    return torch.maximum(value, -(k + 2 * rounding_tolerance(logits.detach())))


def reached(logits: Logits, y: Labels | None, targets: Labels | None, k: float) -> Mask:
    """Whether the goal is reached with a margin of `k` logits and above rounding, [n]."""
    if targets is not None:
        return -margin(logits, targets) > k + rounding_tolerance(logits)
    if y is None:
        raise KeyError("A Carlini-Wagner objective needs 'targets' or 'y' in its context.")
    return margin(logits, y) > k + rounding_tolerance(logits)


@final
@dataclass(frozen=True)
class SquaredDistancePlus(AbstractObjective):
    """||x' - x||_2^2 + c * f(x'): the penalised problem; success requires the confidence.

    Context, per row: `x` the images, `c` the constants, `y` or `targets`, and optionally
    `free` [n, 1, h, w], False at the pixels that must keep their value in `x`.

    - `clipped`: f and the success are those of x' cut to [0, 1], the distance that of x' itself
    """

    logits: Callable[[Images], Logits]
    form: str = "f6"
    confidence: float = 0.0
    clipped: bool = False

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        columns = {} if context is None else context
        y, targets = columns.get("y"), columns.get("targets")
        if "free" in columns:
            x = torch.where(columns["free"], x, columns["x"])
        z = at_least_float32(self.logits(x.clamp(0, 1) if self.clipped else x))
        distance = rows.total((x - columns["x"]).square())
        value = distance + columns["c"] * goal(self.form, z, y, targets, self.confidence)
        return Evaluation(value, reached(z.detach(), y, targets, self.confidence), z)
