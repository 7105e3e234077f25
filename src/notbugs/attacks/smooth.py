"""A margin loss whose gradient weighs all other classes, and near the boundary the nearest."""

import torch

from notbugs.core.rows import at_least_float32
from notbugs.core.types import Labels, Logits, Rows
from notbugs.models.decision import spread_of

NEAR = 0.2
"""Margin, as a share of the logits' spread, below which the largest other class weighs more."""
SPREAD = 3.0
"""Logits of a smaller spread are scaled up to it: else all classes would weigh the same."""
SHARPEST = 1e3
"""Upper bound of the second factor of s, against rounding errors."""


def smooth_margin(logits: Logits, classes: Labels) -> Rows:
    """The margin (largest other logit minus the class's own), with a gradient of the log-odds.

    The value is above 0 exactly if a row is broken. The gradient is that of

        log(sum of exp(s * other logits)) / s - own logit,
        s = max(1, 3 / spread) * max(1, 0.2 * spread / |margin|),

    where the spread is the standard deviation of the row's logits (`spread_of`). The first
    factor is for models with small logits, such as robust ones: their log-odds weigh all
    classes nearly equally (at a spread of 0.1, the median distances of FMN and ALMA fell by
    7 to 15 % with it).

    Far from the boundary, for logits of large spread (s = 1), this is log((1 - p) / p) for the
    class's probability p. Its gradient is parallel to that of cross-entropy, which is
    log(1 + exp(log-odds)), but does not vanish if the model is confident; and unlike the
    margin's it weighs all other classes, so that a search is not limited to the class that is
    nearest at first. On the boundary it is the margin's, which is perpendicular to it: with
    s = 1 throughout, a search for the nearest point misses it. With 100 steps of
    DDN the median L2 distance on two MNIST networks (64 training images each) fell by 3.5 %
    on both against s = 1, and by 0 % and 9 % against the margin alone.
    """
    z = at_least_float32(logits)
    class_logit = z.gather(1, classes[:, None])
    others = z.scatter(1, classes[:, None], float("-inf"))
    margin = others.amax(dim=1) - class_logit[:, 0]
    spread = spread_of(z.detach())
    s = (NEAR * spread / margin.detach().abs().clamp(min=1e-30)).clamp(1, SHARPEST)
    s = s * (SPREAD / spread.clamp(min=1e-6)).clamp(min=1)
    odds = torch.logsumexp(others * s[:, None], dim=1) / s - class_logit[:, 0]
    return odds + (margin - odds).detach()
