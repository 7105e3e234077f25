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
    """A `MultiTargeted` by the `FAB` rule: at the boundary rounding decides, so no copy in bf16."""

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
    """An attack that projects onto the linearised decision boundary, drawn to the image.

    Approximates: minimise norm(x' - x) subject to x' misclassified and 0 <= x' <= 1.

    - `norm`: L1(), L2() or Linf()
    - `eps`: without it, a minimum-norm attack. With it (pixel units of [0, 1]), an attack
      within that threat: a row stops at its first misclassified point not farther than
      `eps`, which is how an ensemble uses it.
    - `steps`: gradient steps for each class tried; each is one forward and one backward
    - `targets_tried`: classes whose boundary to the true one is followed, the likeliest
      wrong ones first (at most all of them); 0 follows the boundary to whichever class
      is nearest at each step, at 1 / `targets_tried` of the cost
    - `most_bias`: the largest share of the step that starts at the image itself, 0..1
    - `overshoot`: by which steps go past the linearised boundary, at least 1
    - `backward`: what is left of the distance after a misclassified point, 0..1
    - `give_up`: with `eps`, a run also ends where its progress shows that the row will not
      get there in time (`GiveUp`): several times cheaper, at some risk

    **Source**: Croce & Hein 2019 (arXiv 1907.02044), Algorithm 1; by targets, Croce & Hein
    2020 (arXiv 2003.01690), section 4.
    **Differs from the paper**: both projections of a step use the linearisation at the
    last point evaluated, also after a step backward, so that a step costs one forward
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
    hopeless = (
        GiveUp("geometric", slack=1.0, continue_below=0.1)
        if give_up and threat is not None
        else None
    )
    solver = Solver(
        within=Box(),
        rule=FAB(norm, most_bias, overshoot, backward),
        max_steps=steps,
        keep=SmallestSuccess(norm),
        stop=stopping(threat is not None, hopeless),
    )
    name = f"FAB-T-{steps}" if targets_tried else f"FAB-{steps}"
    return MultiTargetedFAB(name, threat, norm, solver, targets_tried=targets_tried)
