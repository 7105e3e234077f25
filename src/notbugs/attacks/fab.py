"""FAB: a walk along the decision boundary to the nearest misclassified image."""

from dataclasses import dataclass, replace

from notbugs.attacks.attack import Requirements
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.multi_targeted import MultiTargeted
from notbugs.attacks.stopping import stopping
from notbugs.core.errors import check_count
from notbugs.engine import (
    AbstractNorm,
    Box,
    GiveUp,
    SmallestSuccess,
    Solver,
    Threat,
)
from notbugs.engine.fab import FAB


@dataclass(frozen=True)
class MultiTargetedFAB(MultiTargeted):
    """`MultiTargeted` with the `FAB` rule, without bf16: its rounding matters near the boundary."""

    @property
    def requirements(self) -> Requirements:
        return replace(super().requirements, low_precision=False)


@takes_norm
def fab(
    norm: AbstractNorm,
    eps: float | None = None,
    *,
    steps: int = 100,
    targets_tried: int = 9,
    most_bias: float = 0.1,
    overshoot: float = 1.05,
    backward: float = 0.9,
    give_up: bool = False,
) -> MultiTargetedFAB:
    """An attack that projects onto the linearised decision boundary, biased towards the image.

    Approximates: minimise norm(x' - x) subject to x' misclassified and 0 <= x' <= 1.

    - `norm`: L1(), L2() or Linf()
    - `eps`: None: a minimum-norm attack. Else (pixel units of [0, 1]) an attack within that
      threat, as in AutoAttack: a row stops at its first misclassified point within `eps`.
    - `steps`: gradient steps per target class; each is one forward and one backward pass
    - `targets_tried`: number of target classes, the likeliest wrong ones; 0: the untargeted
      form, towards the largest other logit at each step, at 1 / `targets_tried` of the cost
    - `most_bias`: the largest weight of the projection of the image itself, 0..1 (alpha_max)
    - `overshoot`: factor by which steps go past the linearised boundary, at least 1 (eta)
    - `backward`: factor on the distance of a misclassified point, 0..1 (beta)
    - `give_up`: with `eps`, a row also stops when its progress predicts that it will not
      succeed (`GiveUp`): several times cheaper, but it may miss successes

    **Source**: Croce & Hein 2019 (arXiv 1907.02044), Algorithm 1; by targets, Croce & Hein
    2020 (arXiv 2003.01690), section 4.
    **Differs from the paper**: both projections of a step use the linearisation at the
    last point evaluated, also after a backward step, so that a step costs one forward
    pass instead of two; with `targets_tried=0` only the boundary to the class of the
    largest other logit is linearised, not to each class; no random restarts and no final
    search between the best point and the image.

    **Raises** ValueError for `eps` or `steps` not above 0, a negative `targets_tried`,
    shares outside [0, 1] and an `overshoot` below 1.

    >>> from notbugs.engine import L2
    >>> fab(L2(), 0.5).name
    'FAB-T-100'
    """
    check_count(steps, "steps")
    threat = None if eps is None else Threat(norm, eps)
    give_up_stop = (
        GiveUp("geometric", slack=1.0, continue_below=0.1)
        if give_up and threat is not None
        else None
    )
    solver = Solver(
        within=Box(),
        rule=FAB(norm, most_bias, overshoot, backward),
        max_steps=steps,
        keep=SmallestSuccess(norm),
        stop=stopping(threat is not None, give_up_stop),
    )
    name = f"FAB-T-{steps}" if targets_tried else f"FAB-{steps}"
    return MultiTargetedFAB(name, threat, norm, solver, targets_tried=targets_tried)
