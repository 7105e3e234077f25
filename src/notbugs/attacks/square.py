"""Square: a score-based attack by random search, without gradients."""

from dataclasses import dataclass, replace

from notbugs.attacks.attack import Requirements
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, margin
from notbugs.attacks.stopping import stopping
from notbugs.core.errors import bad_value, check_count
from notbugs.engine import AbstractNorm, AbstractStart, GiveUp, Solver, Threat
from notbugs.engine.pyramid import SquareStart
from notbugs.engine.square import Square


@dataclass(frozen=True)
class SquareAttack(Attack):
    """An `Attack` by the `Square` rule, from stripes or bumps on the sphere of the threat.

    Without bf16: the search compares values whose differences are too small for it.
    """

    @property
    def requirements(self) -> Requirements:
        return replace(super().requirements, low_precision=False)

    def _start(self) -> AbstractStart:
        norm = self.threat.as_norm(self.name)
        return SquareStart(norm, self.threat.eps)


@takes_norm
def square(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
    loss: ValueOfLogits = margin,
    stop_on_success: bool = True,
    give_up: bool = False,
) -> SquareAttack:
    """An attack that changes random squares of the image and keeps changes that help.

    Minimises -loss(logits(x'), y) within norm(x' - x) <= eps by random search: each step
    queries the logits of one candidate per row. It needs no gradients, so it also works on
    models that mask theirs.

    - `norm`: Linf(), L2() or L1()
    - `eps`: pixel units of [0, 1]
    - `steps`: queries per row; the last candidate costs one more
    - `p_init`: share of the image's area that the first squares cover, 0..1; it halves at
      0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the steps
    - `restarts`: runs with new random numbers, for the rows not yet broken
    - `loss`: (logits, classes) -> [n]; the default is the margin
    - `stop_on_success`: a row stops at its first success; if False, it continues to lower its value
    - `give_up`: a row also stops when its progress predicts that it will not succeed
      (`GiveUp`): several times cheaper, but it may miss successes. Only for the margin, which
      is 0 at the boundary.

    **Source**: Andriushchenko et al. 2019 (arXiv 1912.00049), Algorithms 1-3; for L1 Croce
    & Hein 2021 (arXiv 2103.01208), section 5.
    **Differs from the paper**: targeted attacks minimise the margin as well, not the
    cross-entropy; the schedule is the paper's for 10,000 queries stretched to `steps`;
    a Linf square that would change nothing gets the opposite signs; L1 candidates are
    scaled to three radii before their projection.

    **Raises** ValueError for `eps`, `steps` or `restarts` that are not above 0, and for
    `p_init` outside (0, 1].

    >>> from notbugs.engine import Linf
    >>> square(Linf(), 0.3, steps=100).name
    'Square-100'
    """
    check_count(steps, "steps")
    if give_up and loss is not margin:
        raise bad_value(
            "give_up",
            "be left out for a loss other than margin",
            give_up,
            "Only the margin says how far a success is.",
        )
    threat = Threat(norm, eps)
    solver = Solver(
        within=threat.within(),
        rule=Square(norm, eps, p_init),
        max_steps=steps,
        stop=stopping(stop_on_success, GiveUp() if give_up else None),
    )
    return SquareAttack(f"Square-{steps}", threat, solver, loss, True, restarts)
