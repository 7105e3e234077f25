"""Carlini and Wagner's L0 attack: pixels that matter least are given up until none can be."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.cw_l2 import check_objective, context, patient, unchanged
from notbugs.attacks.cw_objectives import SquaredDistancePlus, goal
from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine import (
    L0,
    L2,
    AbstractSize,
    Adam,
    Everywhere,
    FromImages,
    OnSuccess,
    SmallestSuccess,
    Solution,
    Solver,
)
from notbugs.engine.either import Either
from notbugs.engine.solution import joined, nearer
from notbugs.engine.tanh import Tanh

SHARE = 0.3
"""Pixels given up at once, as a share of the root of those that are left (authors' code)."""
UNCHANGED = 1e-3
"""A pixel that moved by less in every channel is given up at no cost."""


class _Search(NamedTuple):
    """Per row: the constant, the pixels that may change, where to start, and the end."""

    c: Rows
    free: Tensor
    x: Images
    done: Mask


@dataclass(frozen=True)
class CarliniWagnerL0(AbstractAttack):
    """One `Solver` solve a set of pixels or constant; see `cw_l0` for the method."""

    solver: Solver
    initial_c: float
    largest_c: float
    growth: float
    objective: str
    confidence: float

    gains_from_speed: ClassVar[bool] = False

    @property
    def size(self) -> AbstractSize:
        return L0()

    @property
    def passes(self) -> int:
        return 10 * self.solver.max_steps

    def find(self, victim: Victim, case: Case) -> Solution:
        """The success that changes the fewest pixels."""
        best = unchanged(victim, case, self.objective, self.confidence)
        at, turn = self._begin(case.x, best.success), 0
        while len(left := (~at.done).nonzero()[:, 0]):
            part, own = case.select(left), rows.select(at, left)
            found = self._solve(victim, part, own, turn)
            best = joined(best, self._kept(found, best, part.x, left), left)
            own = self._next(victim, part, found, own)
            best = spent(best, len(left))
            at, turn = rows.scatter(at, left, own), turn + 1
        return best

    def _begin(self, x: Images, done: Mask) -> _Search:
        c = torch.full(x.shape[:1], self.initial_c, dtype=torch.float32, device=x.device)
        return _Search(c, torch.ones_like(x[:, :1], dtype=torch.bool), x, done)

    def _solve(self, victim: Victim, case: Case, at: _Search, turn: int) -> Solution:
        """The penalised L2 problem on the free pixels, from where the row stands."""
        problem = SquaredDistancePlus(victim.true_logits, self.objective, self.confidence)
        given = {**context(case, at.c), "free": at.free}
        keys, start = case.again("pixels", turn).keys, FromImages(at.x)
        found = self.solver.minimise(
            problem, case.x, given, keys=keys, start=start, observe=case.observe
        )
        x = torch.where(at.free, found.x, case.x)
        distance = rows.total((x - case.x).square())
        return replace(found, x=x, value=(found.value - distance) / at.c)

    def _kept(self, found: Solution, best: Solution, x: Images, left: Tensor) -> Solution:
        """The better of the two; a count is compared, so that what was found last wins ties."""
        old = replace(
            best,
            **{
                name: getattr(best, name)[left]
                for name in ("x", "value", "success", "status", "zero_grads")
            },
            steps=torch.zeros_like(found.steps),
            forwards=0,
            backwards=0,
        )
        return nearer(old, found, x, L0())

    def _next(self, victim: Victim, case: Case, found: Solution, at: _Search) -> _Search:
        """Fewer pixels where these sufficed, else a larger constant, else the end."""
        fewer = at.free & ~self._given_up(victim, case, found, at)
        free = rows.where(found.success, fewer, at.free)
        x = rows.where(found.success, torch.where(fewer, found.x, case.x), at.x)
        c = torch.where(found.success, at.c, at.c * self.growth)
        none = ~rows.flatten(free).any(dim=1)
        return _Search(c, free, x, none | (c > self.largest_c))

    def _given_up(self, victim: Victim, case: Case, found: Solution, at: _Search) -> Tensor:
        """The pixels of least |gradient of f| * |change|, and those that hardly changed."""
        x = found.x.detach().requires_grad_()
        with torch.enable_grad():
            z = victim.true_logits(x)
            f = goal("f6", z, case.y, case.targets, float("inf"))
            (grad,) = torch.autograd.grad(f.sum(), x)
        change = (found.x - case.x).abs()
        moved = at.free & (change.amax(dim=1, keepdim=True) > UNCHANGED)
        worth = grad.abs().sum(dim=1, keepdim=True) * change.sum(dim=1, keepdim=True)
        flat = rows.flatten(torch.where(moved, worth, float("inf")))
        rank = flat.argsort(dim=1, stable=True).argsort(dim=1).reshape(moved.shape)
        count = rows.flatten(moved).sum(dim=1)
        drop = (SHARE * count.float().sqrt()).floor().clamp(min=1)
        return ~moved | (rank < rows.expand(drop, rank))


def spent(found: Solution, passes: int) -> Solution:
    """`found` with as many forward and backward passes more on its account."""
    more = {"forwards": found.forwards + passes, "backwards": found.backwards + passes}
    return replace(found, **more)


def cw_l0(
    steps: int = 100,
    *,
    step_size: float = 0.1,
    initial_c: float = 0.1,
    largest_c: float = 2e6,
    growth: float = 4.0,
    objective: str = "f6",
    confidence: float = 0.0,
    abort_early: bool = True,
    inset: float = 1e-3,
) -> CarliniWagnerL0:
    """An attack that changes few pixels: it gives up the least useful ones until it must stop.

    Repeats, for each row and its set S of pixels that may change (at first all):

        minimise ||x' - x||_2^2 + c * f(x')   subject to x' = x outside S

    from where the row stands, until f's goal is reached; then the pixels of S with the
    smallest |gradient of f| * |change| leave S. Where the goal is not reached, c grows;
    beyond `largest_c` the row ends with the success that changes the fewest pixels.

    - `steps`: Adam steps at most at one S and c; `step_size`: Adam's, in w (see `cw_l2`)
    - `initial_c`, `largest_c`, `growth`: the constants tried, c times `growth` on failure
    - `objective`, `confidence`, `inset`: as in `cw_l2`
    - `abort_early`: a row ends a solve whose objective no longer falls

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section VI-A; how many pixels
    leave at once (0.3 times the root of those changed) is from the authors' code.
    **Differs from the paper**: larger steps and constants, for 100 steps instead of 1000
    (code: c from 1e-3, doubled); a pixel's channels leave together; f6 without its floor
    ranks the pixels, whatever the objective.

    **Raises** ValueError for numbers out of range and an unknown objective.

    >>> cw_l0(50).name
    'CW-L0-50'
    """
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    check_positive(initial_c, "initial_c")
    if not largest_c >= initial_c:
        raise bad_value("largest_c", f"be at least initial_c={initial_c:g}", largest_c)
    if not 1 < growth < float("inf"):
        raise bad_value("growth", "be a finite number above 1", growth)
    check_objective(objective, confidence)
    once = OnSuccess()
    solver = Solver(
        within=Everywhere(),
        rule=Adam(step_size),
        max_steps=steps,
        parameterization=Tanh(inset),
        keep=SmallestSuccess(L2()),
        stop=Either(once, patient(steps)) if abort_early else once,
    )
    name = f"CW-L0-{steps}"
    return CarliniWagnerL0(name, None, solver, initial_c, largest_c, growth, objective, confidence)
