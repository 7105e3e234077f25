"""Auto-PGD: projected gradient descent with an adaptive step size."""

from notbugs.attacks.apgd_l1 import solver_in_l1
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy, targeted_dlr
from notbugs.attacks.multi_targeted import MultiTargeted
from notbugs.attacks.stopping import stopping
from notbugs.core.errors import check_count
from notbugs.engine import APGD, AbstractNorm, AbstractStop, GiveUp, Solver, Threat


@takes_norm
def apgd(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 1,
    loss: ValueOfLogits = cross_entropy,
    rho: float = 0.75,
    stop_on_success: bool = True,
    samples: int = 1,
) -> Attack:
    """An attack by steps with momentum whose step size halves when progress stalls.

    - `norm`: L1(), L2() or Linf(); for L1 the steps are sparse (`apgd_l1`)
    - `eps`: pixel units of [0, 1], e.g. 8/255
    - `steps`: gradient steps; the cost is steps + 1 forward and steps backward passes
    - `restarts`: runs from new random starts, for the rows not yet broken
    - `loss`: `cross_entropy`, or `dlr` (at least 3 classes), which is invariant to the scale
      of the logits; any (logits, classes) -> [n] that increases away from the class
    - `rho`: a step size is kept while the loss increases in more than this share of steps
    - `stop_on_success`: a row stops at its first success
    - `samples`: passes averaged for a randomised model

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), Algorithm 1; for L1 Croce & Hein 2021
    (arXiv 2103.01208), Algorithm 1.

    **Raises** ValueError for `eps`, `steps` or `restarts` that are not above 0.

    >>> from notbugs.engine import Linf
    >>> apgd(Linf(), 8 / 255).name
    'APGD-100'
    """
    threat, solver = _parts(norm, eps, steps, rho, stopping(stop_on_success, None))
    return Attack(f"APGD-{steps}", threat, solver, loss, True, restarts, samples)


@takes_norm
def apgd_targeted(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 100,
    targets_tried: int = 9,
    rho: float = 0.75,
    stop_on_success: bool = True,
    samples: int = 1,
    give_up: bool = False,
) -> MultiTargeted:
    """An untargeted attack: APGD on the targeted DLR loss, one target class after the other.

    - `norm`: as in `apgd`; `eps`: pixel units of [0, 1]
    - `steps`: gradient steps for each class tried
    - `targets_tried`: number of target classes, the likeliest wrong ones, each for the rows
      not yet broken
    - `rho`, `stop_on_success`, `samples`: as in `apgd`
    - `give_up`: a row also stops when its progress predicts that it will not succeed
      (`GiveUp`): several times cheaper, but it may miss successes

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), section 4 and equation 7.
    **Differs from the paper**: with fewer than 4 classes the loss is undefined and the
    difference of the two logits is used instead.

    >>> from notbugs.engine import L2
    >>> apgd_targeted(L2(), 0.5).name
    'APGD-T-100'
    """
    stop = stopping(stop_on_success, GiveUp() if give_up else None)
    threat, solver = _parts(norm, eps, steps, rho, stop)
    name = f"APGD-T-{steps}"
    return MultiTargeted(name, threat, norm, solver, targeted_dlr, targets_tried, True, samples)


def _parts(
    norm: AbstractNorm, eps: float, steps: int, rho: float, stop: AbstractStop
) -> tuple[Threat, Solver]:
    check_count(steps, "steps")
    threat = Threat(norm, eps)
    if norm.name == "l1":
        return threat, solver_in_l1(eps, steps, stop)
    rule = APGD(norm, eps, rho)
    return threat, Solver(within=threat.within(), rule=rule, max_steps=steps, stop=stop)
