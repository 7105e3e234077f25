"""A margin that pulls towards all other classes at once, and near the boundary to the nearest."""

import torch

from notbugs.attacks.losses import fine
from notbugs.core.types import Labels, Logits, Rows
from notbugs.models.decision import spread_of

NEAR = 0.2
"""The lead, as a share of the logits' spread, below which the strongest rival counts for more."""
SPREAD = 3.0
"""The spread below which logits are scaled up to it: else all classes would pull alike."""
SHARPEST = 1e3
"""How many times more at most, so that nothing is lost in rounding."""


def smooth_margin(logits: Logits, classes: Labels) -> Rows:
    """The margin (largest other logit minus the class's own), with a gradient of the log-odds.

    The value tells exactly where a row is broken: it is above 0 there. The gradient is that of

        log(sum of exp(s * other logits)) / s - own logit,
        s = max(1, 3 / spread) * max(1, 0.2 * spread / |margin|),

    where the spread is the standard deviation of the row's logits (`spread_of`). The first
    factor is for models whose logits are small, as robust ones' are: their log-odds weigh all
    classes alike (at a spread of 0.1, the median distances of FMN and ALMA fell by 7 to 15 %
    with it).

    Far from the boundary, of logits that are spread enough (s = 1), this is log((1 - p) / p)
    for the class's probability p. It points along cross-entropy's, which is
    log(1 + exp(log-odds)), but does not shrink where the model is sure; and unlike the
    margin's it weighs all other classes, so that a search does not settle on the class that
    is nearest at first. On the boundary it is the margin's, which is perpendicular to it:
    with s = 1 throughout, a search for the nearest point ends beside it. With 100 steps of
    DDN the median L2 distance on two MNIST networks (64 training images each) fell by 3.5 %
    on both against s = 1, and by 0 % and 9 % against the margin alone.
    """
    z = fine(logits)
    own = z.gather(1, classes[:, None])
    others = z.scatter(1, classes[:, None], float("-inf"))
    lead = others.amax(dim=1) - own[:, 0]
    spread = spread_of(z.detach())
    s = (NEAR * spread / lead.detach().abs().clamp(min=1e-30)).clamp(1, SHARPEST)
    s = s * (SPREAD / spread.clamp(min=1e-6)).clamp(min=1)
    odds = torch.logsumexp(others * s[:, None], dim=1) / s - own[:, 0]
    return odds + (lead - odds).detach()
