"""Carlini and Wagner's Linf attack: a limit on every pixel that shrinks while it can be met."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.cw_l2 import check_objective, context, patient, unchanged
from notbugs.attacks.within_limit import ROUNDING, WithinLimit, rounded
from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine import (
    AbstractSize,
    Adam,
    Everywhere,
    FromImages,
    Linf,
    OnSuccess,
    SmallestSuccess,
    Solution,
    Solver,
)
from notbugs.engine.either import Either
from notbugs.engine.solution import joined
from notbugs.engine.tanh import Tanh

FIRST_LIMIT, LEAST_LIMIT = 1.0, 1e-4
"""The limit a search starts from, and that below which it ends, in pixel units."""


class _Search(NamedTuple):
    """Per row: the penalty's constant, the limit to meet, where to start, and whether it ended."""

    c: Rows
    limit: Rows
    x: Images
    done: Mask


@dataclass(frozen=True)
class CarliniWagnerLinf(AbstractAttack):
    """One `Solver` solve a limit or constant; see `cw_linf` for the method and its options."""

    solver: Solver
    initial_c: float
    largest_c: float
    growth: float
    shrink: float
    least: float
    objective: str
    confidence: float
    levels: int

    gains_from_speed: ClassVar[bool] = False

    @property
    def size(self) -> AbstractSize:
        return Linf()

    @property
    def passes(self) -> int:
        return 10 * self.solver.max_steps

    def find(self, victim: Victim, case: Case) -> Solution:
        """The success within the smallest limit that was met."""
        best = unchanged(victim, case, self.objective, self.confidence)
        problem = WithinLimit(victim.true_logits, self.objective, self.confidence, self.levels)
        c = torch.full_like(best.value, self.initial_c, dtype=torch.float32)
        limit = torch.full_like(c, FIRST_LIMIT)
        at, turn = _Search(c, limit, case.x, best.success), 0
        while len(left := (~at.done).nonzero()[:, 0]):
            part, own = case.select(left), rows.select(at, left)
            found = self._solve(problem, part, own, turn)
            own = self._next(found, part.x, own)
            # A row never broken keeps its last try, which pays the least for the limit.
            old = rows.select(best.success, left)
            best = joined(best, self._kept(found, best, old, left), left)
            at, turn = rows.scatter(at, left, own), turn + 1
        return best

    def _solve(self, problem: WithinLimit, case: Case, at: _Search, turn: int) -> Solution:
        given = {**context(case, at.c), "limit": at.limit}
        keys, start = case.again("limit", turn).keys, FromImages(at.x)
        found = self.solver.minimise(
            problem, case.x, given, keys=keys, start=start, observe=case.observe
        )
        return replace(found, x=rounded(found.x, self.levels)) if self.levels else found

    def _next(self, found: Solution, x: Images, at: _Search) -> _Search:
        """A smaller limit where this one was met, else a weaker penalty, else the end."""
        worked, actual = found.success, Linf().size(found.x - x)
        limit = torch.minimum(at.limit, actual) * self.shrink
        if self.levels:
            limit = (limit * self.levels + ROUNDING * self.levels).floor() / self.levels
        c = torch.where(worked, at.c, at.c * self.growth)
        limit = torch.where(worked, limit, at.limit)
        done = (c > self.largest_c) | (limit < self.least)
        # No limit binds before the first success: such a row goes on from where it came to.
        further = worked | (at.limit >= FIRST_LIMIT)
        return _Search(c, limit, rows.where(further, found.x, at.x), done)

    def _kept(self, found: Solution, best: Solution, broken: Mask, left: Tensor) -> Solution:
        use = found.success | ~broken
        return replace(
            found,
            x=rows.where(use, found.x, best.x[left]),
            value=torch.where(use, found.value, best.value[left]),
            success=found.success | broken,
            status=torch.where(use, found.status, best.status[left]),
            zero_grads=torch.where(use, found.zero_grads, best.zero_grads[left]),
        )


def cw_linf(
    steps: int = 100,
    *,
    step_size: float = 0.02,
    initial_c: float = 0.1,
    largest_c: float = 20.0,
    growth: float = 4.0,
    shrink: float = 0.95,
    objective: str = "f6",
    confidence: float = 0.0,
    levels: int = 0,
    abort_early: bool = True,
    inset: float = 1e-3,
) -> CarliniWagnerLinf:
    """An attack that lowers a limit on every pixel's change for as long as it can be met.

    Repeats, for each row and its limit tau (at first 1):

        minimise c * f(x') + sum over pixels of (|x' - x| - tau)+,   x' = (tanh(w) + 1) / 2

    from where the row stands, until f's goal is reached within tau; then tau becomes
    `shrink` times the largest change. Where it is not reached, c grows; beyond
    `largest_c`, or below a tau of 1e-4, the row ends with the last success.

    - `steps`: Adam steps at most at one tau and c; `step_size`: Adam's, in w (see `cw_l2`)
    - `initial_c`, `largest_c`, `growth`: the constants tried, c times `growth` on failure
    - `shrink`: 0..1, how fast the limit falls
    - `levels`: 255 gives images of whole 8-bit levels, verified as such, down to changes of
      the least significant bit only (for images that are whole levels); 0: no rounding
    - `objective`, `confidence`, `inset`: as in `cw_l2`
    - `abort_early`: a row ends a solve whose objective no longer falls

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section VI-B (discretisation:
    V-B; the lowest bit: VIII).
    **Differs from the paper**: larger steps and first constant, for 100 steps instead of
    1000 (code: 5e-3, c from 1e-5, doubled; tau times 0.9, down to 1/256); the problem is
    divided by c, which leaves the minimum where it is; rounding is part of the objective,
    its gradient passed straight through, instead of a search over the lattice afterwards.

    **Raises** ValueError for numbers out of range and an unknown objective.

    >>> cw_linf(50).name
    'CW-Linf-50'
    """
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    check_positive(initial_c, "initial_c")
    if not largest_c >= initial_c:
        raise bad_value("largest_c", f"be at least initial_c={initial_c:g}", largest_c)
    if not 1 < growth < float("inf"):
        raise bad_value("growth", "be a finite number above 1", growth)
    if not 0 < shrink < 1:
        raise bad_value("shrink", "lie between 0 and 1", shrink)
    check_count(levels, "levels", 0, "Use 255 for 8-bit images, 0 for no rounding.")
    check_objective(objective, confidence)
    once = OnSuccess()
    solver = Solver(
        within=Everywhere(),
        rule=Adam(step_size),
        max_steps=steps,
        parameterization=Tanh(inset),
        keep=SmallestSuccess(Linf()),
        stop=Either(once, patient(steps)) if abort_early else once,
    )
    least = 1 / levels if levels else LEAST_LIMIT
    return CarliniWagnerLinf(
        f"CW-Linf-{steps}",
        None,
        solver,
        initial_c,
        largest_c,
        growth,
        shrink,
        least,
        objective,
        confidence,
        levels,
    )
