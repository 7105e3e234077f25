"""Projected gradient descent (PGD) within a ball."""

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.core.errors import check_count
from notbugs.engine import (
    AbstractNorm,
    Never,
    OnSuccess,
    Solver,
    Steepest,
    SuccessThenLowest,
    Threat,
)
from notbugs.engine.keep import AbstractKeep


@takes_norm
def pgd(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
    stop_on_success: bool = False,
) -> Attack:
    """An attack that takes `steps` steepest steps, projected onto the ball and the pixel box.

    x <- project(x + step_size * steepest(gradient of the loss)), where steepest is the
    sign for Linf and the normalised gradient for L2.

    - `norm`: Linf(), L2() or L1()
    - `eps`, `step_size`: pixel units of [0, 1], e.g. eps=8/255. Without `step_size`,
      2.5 * eps / steps, so that the steps can cross the ball.
    - `steps`: gradient steps; the cost is steps + 1 forward and steps backward passes
    - `random_start`: the first point is uniform in the ball, else the image itself
    - `restarts`: runs from new random starts, for the rows not yet broken
    - `loss`: (logits, classes) -> [n], high if a row is far from its class
    - `stop_on_success`: a row stops at its first success, which is much faster if
      only success matters; without it the examples are stronger
    - `keep`: which of the visited points is returned

    **Source**: Madry et al. 2017 (arXiv 1706.06083), section 2.1.
    **Differs from the paper**: the best visited point is returned, not the last one;
    pass `keep=Last()` for the paper's.

    **Raises** ValueError for `eps`, `steps`, `step_size` or `restarts` that are not above 0.

    >>> from notbugs.engine import L2
    >>> pgd(L2(), 0.5, steps=20, step_size=0.1).name
    'PGD-20'
    """
    check_count(steps, "steps")
    threat = Threat(norm, eps)
    size = 2.5 * eps / steps if step_size is None else step_size
    solver = Solver(
        within=threat.within(),
        rule=Steepest(norm, size),
        max_steps=steps,
        keep=keep,
        stop=OnSuccess() if stop_on_success else Never(),
    )
    return Attack(f"PGD-{steps}", threat, solver, loss, random_start, restarts)
