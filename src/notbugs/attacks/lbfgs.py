"""Szegedy et al.'s attack: box-constrained L-BFGS on a penalised loss."""

from dataclasses import dataclass

from notbugs import engine
from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.binary_search import BinarySearch
from notbugs.attacks.cw_common import (
    ConstantSearch,
    check_numbers,
    context,
    no_progress,
    unchanged,
    valued_by_loss,
)
from notbugs.attacks.cw_objectives import SquaredDistancePlus
from notbugs.core.errors import check_count
from notbugs.engine import L2, AbstractSize, Box, SmallestSuccess, Solution, Solver
from notbugs.engine.solution import nearest


@dataclass(frozen=True)
class LBFGS(ConstantSearch):
    """See `lbfgs`."""

    @property
    def size(self) -> AbstractSize:
        return L2()

    def search(self, victim: Victim, inputs: AttackInputs) -> Solution:
        problem = SquaredDistancePlus(victim.true_logits, self.objective)
        best = unchanged(victim, inputs, self.objective, self.confidence)
        search, loss = BinarySearch.around(self.initial_c, inputs.x), best.value
        for k in range(self.search_steps):
            solution = self.solver.minimise(
                problem,
                inputs.x,
                context(inputs, search.c),
                keys=inputs.again("search", k).keys,
                observe=inputs.observe,
            )
            # A success on the way that is worse than the image itself is no minimum.
            narrowed = search.narrowed(solution.success & (solution.value < search.c * loss))
            solution = valued_by_loss(solution, inputs.x, search.c)
            best, search = nearest(best, solution, inputs.x, L2()), narrowed
        return best


def lbfgs(*, steps: int = 50, search_steps: int = 12, initial_c: float = 1e-2) -> LBFGS:
    """The first attack of all: L-BFGS in the pixel box, with a binary search for the loss's weight.

    For `search_steps` constants c, separately for each row:

        minimise over x' in [0, 1]   ||x' - x||_2^2 + c * loss(x')

    by at most `steps` steps of L-BFGS from the image itself; c grows tenfold until the row is
    broken at a lower value than the image's own, then the interval between failure and success
    is halved. Of all points evaluated, the success nearest to the image is returned.

    - the loss: -log(2 F_t) with targets, else -log(2 (1 - F_y)), in nats, F the probabilities
    - `steps`: per constant; a row stops early as in `cw_l2`
    - `initial_c`: the first constant, squared pixel units per nat

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.1.
    **Differs from the paper**: the squared distance, which is smooth at the image, instead
    of the distance; c weighs the loss instead of the distance; the untargeted form is
    ours; all evaluated points count, not only the minimiser; pixels at a bound are left out of
    the curvature estimate, and a step that does not improve is halved, in place of a line search.

    **Raises** ValueError for counts and constants that are not above 0.

    >>> lbfgs(steps=20).name
    'L-BFGS-12x20'
    """
    check_count(search_steps, "search_steps")
    check_numbers(steps, 1.0, initial_c)
    solver = Solver(
        within=Box(),
        rule=engine.LBFGS(curvature=2.0),
        max_steps=steps,
        keep=SmallestSuccess(L2()),
        stop=no_progress(steps),
    )
    name = f"L-BFGS-{search_steps}x{steps}"
    return LBFGS(name, None, solver, search_steps, initial_c, "f5", 0.0)
