"""Auto-PGD within an L1 ball, its steps as sparse as the best change so far asks for."""

from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.core.errors import check_count
from notbugs.engine import L1, Never, OnSuccess, Solver, Threat
from notbugs.engine.apgd_l1 import APGDL1


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
    the largest entries of the gradient, as many as two thirds of those that the best change
    uses, and ends in the exact projection onto ball and box.

    - `eps`: sum of absolute changes, pixel units of [0, 1], e.g. 12 for CIFAR-10
    - `steps`: gradient steps; the cost is steps + 1 forward and steps backward passes
    - `restarts`: tries with fresh starts, for the rows that still stand
    - `loss`: any (logits, classes) -> [n] that rises away from the class
    - `stop_on_success`: a row stops at its first success
    - `samples`: passes averaged for a model that is random in itself

    **Source**: Croce & Hein 2021 (arXiv 2103.01208), Algorithm 1 and section 3.
    **Differs from the paper**: no schedule of larger radii. Going from 3 eps by 2 eps to
    eps in the same 100 steps changed the number of broken rows by -4 to +2 of 64, on two
    MNIST networks at three radii each.

    **Raises** ValueError for `eps`, `steps`, `restarts` or `samples` that are not above 0.

    >>> apgd_l1(12).name
    'APGD-L1-100'
    """
    check_count(steps, "steps")
    threat = Threat(L1(), eps)
    stop = OnSuccess() if stop_on_success else Never()
    solver = Solver(within=threat.within(), rule=APGDL1(eps), max_steps=steps, stop=stop)
    return Attack(f"APGD-L1-{steps}", threat, solver, loss, True, restarts, samples)
