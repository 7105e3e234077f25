"""Decisions from logits: the predicted class, and whether rounding could change it.

Clean accuracy, attacks, the evaluation and the constructed sets all use these definitions. A
class leads another by the difference of their logits. A row is

- **right** where its label leads: the label is the only class at the top (`predicted`);
- **broken** where another class leads the label by more than the rounding tolerance
  (`misclassified`); half of it, where an attack's result is verified at the end;
- **broken within rounding** where the label does not lead, but no class leads it by so much.

Rows with logits that are not finite are neither.
"""

import torch
from torch import Tensor

from notbugs.core.types import Labels, Logits, Mask, Rows

RELATIVE = 84.0
"""Tolerance in units of rounding of the logits' spread: 1e-5 of it in float32."""
OWN = 8.0
"""Tolerance in units of rounding of the two top logits: 1e-6 of the larger in float32."""
FAR = 30.0
"""Logits further below the top than this times the third one do not count for the spread."""
CANNOT_WIN = 100.0
"""Nats below the top at which a class's probability is zero in float32."""


def predicted(logits: Logits) -> Labels:
    """The predicted class of each row, [n]; -1 where the top logit is tied or not finite."""
    top, classes = logits.max(dim=1)
    unique = (logits == top[:, None]).sum(dim=1) == 1
    return torch.where(unique & top.isfinite(), classes, -1)


def decided(logits: Logits) -> Mask:
    """Rows with a decision: no NaN among the logits, and a finite top logit, [n]."""
    return logits.amax(dim=1).isfinite()


def rounding_tolerance(logits: Logits) -> Rows:
    """The lead below which rounding may decide between the two top classes, [n].

    With the sorted logits z1 >= z2 >= z3 and the dtype's machine epsilon u,

        84 u min(z1 - z3, 100) + 8 u max(|z1|, |z2|, 1).

    Batches of another size are summed in another order, which changed logits by 1e-6 of their
    spread in tests. z1 - z3 measures the spread without masked classes and outliers; it is
    capped at 100, above which the third class cannot win. The second term is the rounding of the
    two top logits themselves, for offsets common to all logits; it is positive also where both
    are near 0, as their summands are not. dtypes below float32 count as float32, in which models
    compute. TF32 kernels, where the caller allows them, may change logits by more.
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    top = logits.topk(min(3, logits.shape[1]), dim=1).values
    tolerance = OWN * top[:, :2].abs().amax(dim=1).clamp(min=1.0)
    if top.shape[1] == 3:
        spread = top[:, 0] - top[:, 2]
        tolerance = tolerance + RELATIVE * spread.clamp(max=CANNOT_WIN)
    return tolerance * torch.finfo(dtype).eps


def spread_of(logits: Logits) -> Rows:
    """The standard deviation of each row's logits without masked classes, [n].

    Masked: more than `FAR` times as far below the top logit as the third one.
    """
    top = logits.topk(min(3, logits.shape[1]), dim=1).values
    counted = logits >= top[:, :1] - FAR * (top[:, :1] - top[:, -1:])
    n, live = counted.sum(dim=1), logits.where(counted, 0.0)
    off = (logits - (live.sum(dim=1) / n)[:, None]).where(counted, 0.0)
    return (off.square().sum(dim=1) / (n - 1)).sqrt()


def misclassified(logits: Logits, y: Labels, tolerances: float = 1.0) -> Mask:
    """Rows in which another class leads `y` by more than `tolerances` rounding tolerances, [n]."""
    values = logits.detach()
    # `margin` would take twice the time, at every step, and differ only where `y` leads.
    lead = values.amax(dim=1) - values.gather(1, y[:, None])[:, 0]
    return lead > tolerances * rounding_tolerance(values)


def classified_as(logits: Logits, targets: Labels, tolerances: float = 1.0) -> Mask:
    """Rows in which the target leads all others by more than `tolerances` tolerances, [n]."""
    values = logits.detach()
    return -margin(values, targets) > tolerances * rounding_tolerance(values)


def margin(logits: Logits, classes: Tensor) -> Rows:
    """Largest other logit minus the class's own, [n]. Positive: another class is predicted.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), f6 without its floor.
    """
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return others.amax(dim=1) - own


def looks_like_probabilities(logits: Logits) -> bool:
    """Whether logits look like a softmax or sigmoid: all in [0, 1], sums of 1 or values above 0.5.

    Such outputs round to ties where the model is confident, and their gradients vanish there.
    """
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    sums = bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all())
    return inside and (sums or bool((logits > 0.5).any()))
