"""A margin that pulls towards all other classes at once."""

import torch
from torch import Tensor

from notbugs.attacks.losses import fine, margin
from notbugs.core.types import Logits, Rows


def smooth_margin(logits: Logits, classes: Tensor) -> Rows:
    """The margin (largest other logit minus the class's own), with a gradient of the log-odds.

    The value tells exactly where a row is broken: it is above 0 there. The gradient is that
    of log((1 - p) / p) = log(sum of exp(other logits)) - own logit, for the class's
    probability p. It points along cross-entropy's, which is log(1 + exp(log-odds)), but does
    not shrink where the model is sure; and unlike the margin's it weighs all other classes,
    so that a search does not settle on the class that is nearest at first.
    """
    z = fine(logits)
    own = z.gather(1, classes[:, None])
    others = z.scatter(1, classes[:, None], float("-inf"))
    odds = torch.logsumexp(others, dim=1) - own[:, 0]
    return odds + (margin(z, classes) - odds).detach()
