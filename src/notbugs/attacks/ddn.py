"""DDN: the nearest misclassified image in L2 from one short run, without a binary search."""

from notbugs.attacks.losses import ValueOfLogits
from notbugs.attacks.minimum import MinimumNorm
from notbugs.attacks.smooth import smooth_margin
from notbugs.core.errors import check_count
from notbugs.engine import L2, Box, SmallestSuccess, Solver
from notbugs.engine.ddn import DDN


def ddn(
    *,
    steps: int = 100,
    step_size: float = 1.0,
    radius: float = 1.0,
    shrink: float = 0.05,
    loss: ValueOfLogits = smooth_margin,
) -> MinimumNorm:
    """An attack that follows the gradient on a sphere whose radius converges to the boundary.

    Approximates: minimise ||x' - x||_2 subject to x' misclassified (or classified as the
    target) and 0 <= x' <= 1.

    - `steps`: gradient steps; the cost is steps + 1 forward and steps backward passes
    - `step_size`: length of the first step, in L2 pixel units; decays to a hundredth
    - `radius`: first radius of the sphere, in L2 pixel units
    - `shrink`: share by which the radius changes at every step
    - `loss`: as in `fmn`

    **Source**: Rony et al. 2018 (arXiv 1811.09600), Algorithm 1; shrink 0.05, first
    radius 1 and the cosine schedule of steps from 1 to 0.01 as in section 5.
    **Differs from the paper**: the images are not rounded to 256 levels; the radius never
    exceeds the farthest corner of the pixel box. The loss's gradient points along that of
    cross-entropy but does not vanish where the model is confident, and near the boundary is
    perpendicular to it (`smooth_margin`).

    **Raises** ValueError for `steps`, `step_size` or `radius` that are not above 0, and
    for a `shrink` outside (0, 1).

    >>> ddn(steps=50).name
    'DDN-50'
    """
    check_count(steps, "steps")
    solver = Solver(Box(), DDN(step_size, radius, shrink), steps, keep=SmallestSuccess(L2()))
    return MinimumNorm(f"DDN-{steps}", None, L2(), solver, loss)
