"""The fast gradient sign method: one full step."""

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.engine import AbstractNorm, Last, Solver, Steepest, Threat


@takes_norm
def fgsm(
    norm: AbstractNorm,
    eps: float,
    *,
    random_start: bool = False,
    loss: ValueOfLogits = cross_entropy,
) -> Attack:
    """An attack of one step of length `eps` along the steepest direction of the loss.

    x_adv = clamp(x + eps * sign(gradient of loss(x, y)), 0, 1) for Linf, and the
    normalised gradient instead of the sign for L2.

    - `norm`: Linf(), L2() or L1()
    - `eps`: pixel units of [0, 1], e.g. 8/255
    - `random_start`: start at a uniform point of the ball
    - `loss`: (logits, classes) -> [n], high if a row is far from its class

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 4.

    >>> from notbugs.engine import Linf
    >>> fgsm(Linf(), 8 / 255).name
    'FGSM'
    """
    threat = Threat(norm, eps)
    solver = Solver(within=threat.within(), rule=Steepest(norm, eps), max_steps=1, keep=Last())
    return Attack("FGSM", threat, solver, loss, random_start)
