"""What logits decide: the class of each row, and which decisions are only rounding.

One definition serves clean accuracy, attacks, the evaluation and the constructed sets. With
the lead of a class over the strongest other one, a row is

- **right** where its label leads: the label is the only class at the top (`predicted`);
- **broken** where another class leads the label by more than the rounding tolerance
  (`misclassified`); half of it, where an attack's result is verified at the end;
- **broken within rounding** where the label does not lead, but nothing leads it by so much.

Logits that are not finite decide nothing.
"""

import torch
from torch import Tensor

from notbugs.core.types import Labels, Logits, Mask, Rows

RELATIVE = 84.0
"""Roundings of the logits' spread within which a lead is rounding: 1e-5 of it in float32."""
OWN = 8.0
"""Roundings of the two top logits themselves: 1e-6 of the larger in float32."""
FAR = 30.0
"""Times the third class's distance from the top beyond which no logit counts for the spread."""
CANNOT_WIN = 100.0
"""Nats below the top at which a class's probability is zero in float32."""


def predicted(logits: Logits) -> Labels:
    """The class that leads each row, [n]; -1 where several share the top or it is not finite."""
    top, classes = logits.max(dim=1)
    alone = (logits == top[:, None]).sum(dim=1) == 1
    return torch.where(alone & top.isfinite(), classes, -1)


def decided(logits: Logits) -> Mask:
    """Rows whose logits decide something: no NaN, and no infinite logit at the top, [n]."""
    return logits.amax(dim=1).isfinite()


def rounding_tolerance(logits: Logits) -> Rows:
    """The lead within which rounding decides between the two top classes, [n].

    With the sorted logits z1 >= z2 >= z3 and the type's rounding u,

        84 u min(z1 - z3, 100) + 8 u max(|z1|, |z2|, 1).

    The same image in a batch of another size goes through other sums. Its logits were seen
    to move by 1e-6 of their spread, of which z1 - z3 is what a masked class or an outlier
    does not change; it counts as at most 100, from where on the third class cannot win. The
    second term is the rounding of the two logits as they stand, all that an offset common
    to them adds; it does not vanish where both are near 0, for what was summed was not.
    In float64 the bound shrinks with its rounding; lower types are taken as float32, in
    which models compute. TF32 kernels, where the caller allows them, may move logits by more.
    """
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    top = logits.topk(min(3, logits.shape[1]), dim=1).values
    own = OWN * top[:, :2].abs().amax(dim=1).clamp(min=1.0)
    if top.shape[1] == 3:
        spread = top[:, 0] - top[:, 2]
        own = own + RELATIVE * spread.clamp(max=CANNOT_WIN)
    return own * torch.finfo(kind).eps


def spread_of(logits: Logits) -> Rows:
    """The standard deviation of each row's logits, to which masked classes do not count, [n].

    That is, those more than `FAR` times as far below the top as the third.
    """
    top = logits.topk(min(3, logits.shape[1]), dim=1).values
    counted = logits >= top[:, :1] - FAR * (top[:, :1] - top[:, -1:])
    n, live = counted.sum(dim=1), logits.where(counted, 0.0)
    off = (logits - (live.sum(dim=1) / n)[:, None]).where(counted, 0.0)
    return (off.square().sum(dim=1) / (n - 1)).sqrt()


def misclassified(logits: Logits, y: Labels, tolerances: float = 1.0) -> Mask:
    """Rows in which another class leads `y` by more than so many rounding tolerances, [n]."""
    seen = logits.detach()
    # No margin over the others: it takes twice the time, at every step, and differs only
    # where `y` leads.
    lead = seen.amax(dim=1) - seen.gather(1, y[:, None])[:, 0]
    return lead > tolerances * rounding_tolerance(seen)


def classified_as(logits: Logits, targets: Labels, tolerances: float = 1.0) -> Mask:
    """Rows in which the target leads all others by more than so many rounding tolerances, [n]."""
    seen = logits.detach()
    return -margin(seen, targets) > tolerances * rounding_tolerance(seen)


def margin(logits: Logits, classes: Tensor) -> Rows:
    """Largest other logit minus the class's own, [n]. Positive: classified otherwise.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), f6 without its floor.
    """
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return others.amax(dim=1) - own


def looks_like_probabilities(logits: Logits) -> bool:
    """Whether the rows end in a softmax or a sigmoid: all in [0, 1], and sums of 1 or large ones.

    Such outputs round to ties where the model is sure, and their gradients vanish there.
    """
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    sums = bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all())
    return inside and (sums or bool((logits > 0.5).any()))
