"""Carlini and Wagner's L2 attack: a penalised problem with a binary search over its constant."""

from dataclasses import dataclass, replace

from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.binary_search import BinarySearch
from notbugs.attacks.cw_common import (
    ConstantSearch,
    any_images,
    check_numbers,
    check_objective,
    context,
    no_progress,
    tanh_solver,
    valued_by_loss,
)
from notbugs.attacks.cw_objectives import SquaredDistancePlus
from notbugs.core import rows
from notbugs.core.errors import check_count, unknown_name
from notbugs.core.types import Mask
from notbugs.engine import (
    L2,
    AbstractSize,
    Box,
    Everywhere,
    FromImages,
    Never,
    Pixels,
    Solution,
)
from notbugs.engine.solution import nearest

BOXES = ("tanh", "clipped", "projected")
REPEAT_LAST = 10
"""Number of search steps from which the last one repeats the best constant."""


@dataclass(frozen=True)
class CarliniWagnerL2(ConstantSearch):
    """See `cw_l2` for the method and its options."""

    clipped: bool = False

    @property
    def size(self) -> AbstractSize:
        return L2()

    def search(self, victim: Victim, inputs: AttackInputs) -> Solution:
        problem = SquaredDistancePlus(
            victim.true_logits, self.objective, self.confidence, self.clipped
        )
        search, best, start = BinarySearch.around(self.initial_c, inputs.x), None, inputs.x
        late: Mask | None = None  # the rows that no constant of the first half broke
        for k in range(self.search_steps):
            if k and k == self.search_steps - 1 and self.search_steps >= REPEAT_LAST:
                search = search.last()
            solution = self.solver.minimise(
                problem,
                inputs.x,
                context(inputs, search.c),
                keys=inputs.again("search", k).keys,
                start=FromImages(start),
                observe=inputs.observe,
            )
            solution = valued_by_loss(solution, inputs.x, search.c)
            solution = replace(solution, x=solution.x.clamp(0, 1)) if self.clipped else solution
            best = solution if best is None else nearest(best, solution, inputs.x, L2())
            if k == self.search_steps // 2:
                late = ~best.success
                start = rows.where(late, solution.x, inputs.x)
            elif late is not None:
                noise = any_images(start, inputs.keys, k)
                start = rows.where(late, rows.where(best.success, best.x, noise), inputs.x)
            search = search.narrowed(solution.success)
        if best is None:
            raise RuntimeError("A search needs at least one step.")
        return best


def cw_l2(
    *,
    steps: int = 200,
    search_steps: int = 9,
    step_size: float = 0.1,
    initial_c: float = 1e-3,
    objective: str = "f6",
    confidence: float = 0.0,
    abort_early: bool = True,
    inset: float = 1e-3,
    box: str = "tanh",
) -> CarliniWagnerL2:
    """An attack for the nearest success in L2, by a penalty with a binary search for its weight.

    For `search_steps` constants c, separately for each row:

        minimise over w   ||x' - x||_2^2 + c * f(x'),   x' = (tanh(w) + 1) / 2

    by `steps` steps of Adam from the image itself. c grows tenfold until the row is broken, then
    the interval between the largest c that failed and the smallest that succeeded is halved. From
    the middle of the search on, a row that no c broke goes on from the best point of the last
    solve, then from images of noise, dense and sparse by turns, and once broken from its success.
    Of all points visited, the success nearest to the image is returned.

    - `steps`: gradient steps at one constant; `search_steps`: constants tried. At most
      steps * search_steps backward passes per row, fewer with `abort_early`
    - `step_size`: Adam's step in w, which has no unit (w = 0 is mid grey, 3.8 is 0.9995)
    - `initial_c`: the first constant, squared pixel units per unit of f
    - `objective`: "f1".."f7" (`CW_OBJECTIVES`); f6 is the paper's choice
    - `confidence`: margin in logits that a success must have; a larger one transfers better
    - `abort_early`: a row stops a search step if its objective decreased by less than 0.1 %
      in a tenth of the steps (in 20 steps, if that is more)
    - `inset`: 2x - 1 is multiplied by 1 - `inset` at the start (`Tanh`)
    - `box`: what keeps the pixels in [0, 1]: "tanh", as above; "clipped", f sees the image cut to
      [0, 1], the distance does not; "projected", each step is cut. With these, `step_size` is in
      pixel units

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section VI-A, the ways to keep the box in
    V-B; search and early abort as in the authors' code, which looks for a decrease of 0.01 %. From
    10 search steps on, the last repeats the best c.
    **Differs from the paper**: a step of 0.1 for
    200 steps (the code: 0.01 for up to 10,000) and an inset of 1e-3 (1e-6), without which black
    pixels hardly move in 200 steps (where most are black, 0.2 comes nearer still); rows that no c
    breaks start elsewhere (the paper: near the image); early abort for each row separately; an
    image that needs no change is returned unchanged.

    **Raises** ValueError for counts, steps or constants that are not above 0, an unknown
    objective or box, and a confidence that is negative or that the objective cannot reach.

    >>> cw_l2(steps=100, search_steps=5).name
    'CW-L2-5x100'
    """
    check_numbers(steps, step_size, initial_c)
    check_count(search_steps, "search_steps")
    check_objective(objective, confidence)
    if box not in BOXES:
        raise unknown_name("box", box, BOXES)
    stop = no_progress(steps) if abort_early else Never()
    solver = tanh_solver(L2(), steps, step_size, inset, stop)
    if box != "tanh":
        within = Box() if box == "projected" else Everywhere()
        solver = replace(solver, within=within, parameterization=Pixels())
    name = f"CW-L2-{search_steps}x{steps}" + f"-{box}" * (box != "tanh")
    numbers = search_steps, initial_c, objective, confidence
    return CarliniWagnerL2(name, None, solver, *numbers, box == "clipped")
