"""The momentum iterative method: steps along a decayed sum of normalised gradients."""

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.core.errors import bad_value, check_count
from notbugs.engine import (
    AbstractKeep,
    AbstractNorm,
    Momentum,
    Never,
    OnSuccess,
    Solver,
    SuccessThenLowest,
    Threat,
)


@takes_norm
def mim(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 10,
    decay: float = 1.0,
    step_size: float | None = None,
    random_start: bool = False,
    restarts: int = 1,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
    stop_on_success: bool = False,
) -> Attack:
    """An attack with momentum: g <- decay * g + gradient / ||gradient||_1.

    x <- project(x + step_size * steepest(g)), where steepest is the sign for Linf and
    the normalised sum for L2. Its examples transfer better than those of `pgd`.

    - `norm`: Linf(), L2() or L1()
    - `eps`, `step_size`: pixel units of [0, 1]; without `step_size`, eps / steps
    - `steps`: gradient steps
    - `decay`: factor on the previous g, at least 0; 0: no momentum
    - `random_start`, `restarts`, `loss`, `keep`, `stop_on_success`: as in `pgd`

    **Source**: Dong et al. 2017 (arXiv 1710.06081), Algorithm 1; equation 9 for L2.
    **Differs from the paper**: the best visited point is returned, not the last one;
    pass `keep=Last()` for the paper's.

    **Raises** ValueError for `eps`, `steps`, `step_size` or `restarts` that are not above
    0, and for a negative `decay`.

    >>> from notbugs.engine import Linf
    >>> mim(Linf(), 16 / 255).name
    'MIM-10'
    """
    check_count(steps, "steps")
    check_decay(decay)
    threat = Threat(norm, eps)
    solver = Solver(
        within=threat.within(),
        rule=Momentum(norm, eps / steps if step_size is None else step_size, decay),
        max_steps=steps,
        keep=keep,
        stop=OnSuccess() if stop_on_success else Never(),
    )
    return Attack(f"MIM-{steps}", threat, solver, loss, random_start, restarts)


def check_decay(decay: float) -> None:
    """Refuses a `decay` that is negative or not finite."""
    if not 0 <= decay < float("inf"):
        raise bad_value("decay", "be a finite number of at least 0", decay, "The paper's is 1.")
