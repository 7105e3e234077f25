"""Carlini and Wagner's L2 attack: a penalised problem, solved for a search over its constant."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.bracket import Bracket
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, SquaredDistancePlus, goal, reached
from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.core.types import RowTree
from notbugs.engine import (
    L2,
    AbstractSize,
    Adam,
    Everywhere,
    Never,
    Plateau,
    SmallestSuccess,
    Solution,
    Solver,
    Status,
)
from notbugs.engine.solution import joined, nearer
from notbugs.engine.tanh import Tanh

REPEAT_LAST = 10
"""Number of search steps from which the last one tries the best constant again."""
PATIENCE, LEAST_PATIENCE = 0.1, 20
"""Share of a search step's iterations, and least number of them, that a row may stand still."""
PROGRESS = 1e-3
"""Relative fall of the objective that counts as progress."""


@dataclass(frozen=True)
class CarliniWagnerL2(AbstractAttack):
    """One `Solver` solve a search step; see `cw_l2` for the method and its options."""

    solver: Solver
    search_steps: int
    initial_c: float
    objective: str
    confidence: float

    gains_from_speed: ClassVar[bool] = False

    @property
    def size(self) -> AbstractSize:
        return L2()

    @property
    def passes(self) -> int:
        return self.solver.max_steps * self.search_steps

    def find(self, victim: Victim, case: Case) -> Solution:
        """The nearest success over all constants; rows that need no change are not touched."""
        start = unchanged(victim, case, self.objective, self.confidence)
        left = (~start.success).nonzero()[:, 0]
        if not len(left):
            return start
        return joined(start, self._search(victim, case.select(left)), left)

    def _search(self, victim: Victim, case: Case) -> Solution:
        problem = SquaredDistancePlus(victim.true_logits, self.objective, self.confidence)
        bracket, best = Bracket.around(self.initial_c, case.x), None
        for k in range(self.search_steps):
            if k and k == self.search_steps - 1 and self.search_steps >= REPEAT_LAST:
                bracket = bracket.last()
            found = self.solver.minimise(
                problem,
                case.x,
                context(case, bracket.c),
                keys=case.again("search", k).keys,
                observe=case.observe,
            )
            # Values of different constants do not compare; what is left of them does.
            distance = rows.total((found.x - case.x).square())
            found = replace(found, value=(found.value - distance) / bracket.c)
            best = found if best is None else nearer(best, found, case.x, L2())
            bracket = bracket.narrowed(found.success)
        if best is None:
            raise RuntimeError("A search needs at least one step.")
        return best


def context(case: Case, c: torch.Tensor) -> RowTree:
    """What the penalised objectives need of each row."""
    given = {"x": case.x, "c": c}
    if case.targets is not None:
        return {**given, "targets": case.targets}
    if case.y is None:
        raise bad_value("y", "be given without `targets`", None)
    return {**given, "y": case.y}


def unchanged(victim: Victim, case: Case, form: str, confidence: float) -> Solution:
    """The images themselves as a solution: a success where they need no change."""
    with torch.no_grad():
        z = victim.true_logits(case.x)
        value = goal(form, z, case.y, case.targets, confidence)
        success = reached(z, case.y, case.targets, confidence)
    count = torch.zeros(len(case.x), dtype=torch.int64, device=case.x.device)
    return Solution(
        x=case.x,
        value=value,
        success=success,
        status=torch.full_like(count, Status.STOPPED),
        steps=count,
        zero_grads=count,
        forwards=len(case.x),
        backwards=0,
    )


def cw_l2(
    steps: int = 200,
    *,
    search_steps: int = 9,
    step_size: float = 0.1,
    initial_c: float = 1e-3,
    objective: str = "f6",
    confidence: float = 0.0,
    abort_early: bool = True,
    inset: float = 1e-3,
) -> CarliniWagnerL2:
    """An attack that finds the nearest success in L2, by a penalty whose weight is searched.

    For `search_steps` constants c, each row having its own:

        minimise over w   ||x' - x||_2^2 + c * f(x'),   x' = (tanh(w) + 1) / 2

    by `steps` steps of Adam from the image itself. c grows tenfold until the row is broken,
    then the interval between the largest c that failed and the smallest that worked is
    halved. Of all points seen, the success nearest to the image is returned.

    - `steps`: gradient steps at one constant; `search_steps`: constants tried. At most
      steps * search_steps backward passes a row, less with `abort_early`
    - `step_size`: Adam's step in w, which has no unit (w = 0 is mid grey, 3.8 is 0.9995)
    - `initial_c`: the first constant, squared pixel units per unit of f
    - `objective`: "f1".."f7" (`CW_OBJECTIVES`); f6 is the paper's choice
    - `confidence`: margin in logits that a success must have; more of it transfers better
    - `abort_early`: a row leaves a constant whose objective fell by less than 0.1 % in a
      tenth of the steps (in 20 steps, if that is more)
    - `inset`: how far 2x - 1 is drawn from -1 and 1 at the start (`Tanh`)

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section V-B; search and early
    abort as in the authors' code. From 10 search steps on, the last tries the best c again.
    **Differs from the paper**: a step of 0.1 for 200 steps (the code: 0.01 for up to
    10,000) and an inset of 1e-3 (1e-6), without which black pixels hardly move in 200
    steps; early abort row by row; an image that needs no change is returned as it is.

    **Raises** ValueError for counts, steps or constants that are not above 0, an unknown
    objective, and a confidence that is negative or out of the objective's reach.

    >>> cw_l2(100, search_steps=5).name
    'CW-L2-5x100'
    """
    check_count(steps, "steps")
    check_count(search_steps, "search_steps")
    check_positive(step_size, "step_size")
    check_positive(initial_c, "initial_c")
    check_objective(objective, confidence)
    solver = Solver(
        within=Everywhere(),
        rule=Adam(step_size),
        max_steps=steps,
        parameterization=Tanh(inset),
        keep=SmallestSuccess(L2()),
        stop=patient(steps) if abort_early else Never(),
    )
    name = f"CW-L2-{search_steps}x{steps}"
    return CarliniWagnerL2(name, None, solver, search_steps, initial_c, objective, confidence)


def patient(steps: int) -> Plateau:
    """Where a row ends a search step early: long enough to outlast Adam's first overshoot."""
    return Plateau(max(LEAST_PATIENCE, round(PATIENCE * steps)), PROGRESS)


def check_objective(objective: str, confidence: float) -> None:
    """Refuses an unknown form, a negative confidence, and one that the form cannot reach."""
    if objective not in CW_OBJECTIVES:
        raise unknown_name("objective", objective, CW_OBJECTIVES)
    if not (0 <= confidence < float("inf")):
        raise bad_value("confidence", "be a finite number of at least 0", confidence)
    if confidence > 0 and CW_OBJECTIVES[objective].bends:
        raise bad_value(
            "confidence",
            f"be 0 with objective='{objective}'",
            confidence,
            "It is flat past the boundary: use f6.",
        )
