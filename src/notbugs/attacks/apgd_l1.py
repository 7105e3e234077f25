"""Auto-PGD within an L1 ball, with sparse steps."""

from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.attacks.stopping import stopping
from notbugs.core.errors import check_count
from notbugs.engine import L1, AbstractStop, LowestValue, Solver, Threat
from notbugs.engine.apgd_l1 import APGDL1

LARGER = (3, 2)
"""Radii, in eps, of the larger balls searched first."""
TENTHS = 3
"""Tenths of the steps taken in each of them."""


def apgd_l1(
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 1,
    loss: ValueOfLogits = cross_entropy,
    stop_on_success: bool = True,
    samples: int = 1,
) -> Attack:
    """An attack by sparse steps onto the L1 ball within the pixel box.

    Maximises the loss over ||x' - x||_1 <= eps and 0 <= x' <= 1. Each step is spread over
    the largest entries of the gradient, two thirds as many as the best perturbation changes,
    and is projected exactly onto the intersection of ball and box. The first 30 % of the steps are
    taken in the ball of 3 eps, the next 30 % in that of 2 eps; a success counts within eps.

    - `eps`: sum of absolute changes, pixel units of [0, 1], e.g. 12 for CIFAR-10
    - `steps`: gradient steps; the cost is steps + 1 forward and steps backward passes
    - `restarts`: runs from new random starts, for the rows not yet broken
    - `loss`: any (logits, classes) -> [n] that increases away from the class
    - `stop_on_success`: a row stops at its first success
    - `samples`: passes averaged for a randomised model

    **Source**: Croce & Hein 2021 (arXiv 2103.01208), Algorithm 1 and section 3; the
    larger radii as in AutoAttack's version for L1.
    **Raises** ValueError for `eps`, `steps`, `restarts` or `samples` that are not above 0.

    >>> apgd_l1(12).name
    'APGD-L1-100'
    """
    check_count(steps, "steps")
    threat = Threat(L1(), eps)
    solver = solver_in_l1(eps, steps, stopping(stop_on_success, None))
    return Attack(f"APGD-L1-{steps}", threat, solver, loss, True, restarts, samples)


def solver_in_l1(eps: float, steps: int, stop: AbstractStop) -> Solver:
    """A solver of sparse steps, first within larger L1 balls and then within that of `eps`."""
    threat, early, before = Threat(L1(), eps), steps * TENTHS // 10, None
    for factor in LARGER if early else ():
        larger = threat.scaled(factor)
        before = Solver(
            within=larger.within(),
            rule=APGDL1(larger.eps, goes_on=before is not None),
            max_steps=early,
            keep=LowestValue(),
            before=before,
        )
    return Solver(
        within=threat.within(),
        rule=APGDL1(eps, goes_on=before is not None),
        max_steps=steps - len(LARGER) * early,
        stop=stop,
        before=before,
    )
