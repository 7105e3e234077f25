"""Carlini and Wagner's L0 attack: pixels that matter least are given up until none can be."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.cw_common import (
    Narrowing,
    Search,
    check_growth,
    check_numbers,
    check_objective,
    context,
    once,
    tanh_solver,
)
from notbugs.attacks.cw_objectives import SquaredDistancePlus, goal
from notbugs.core import rows
from notbugs.core.types import Images
from notbugs.engine import L0, L2, AbstractSize, FromImages, Solution
from notbugs.engine.solution import nearest

SHARE = 0.3
"""Pixels given up at once, as a share of the root of those that are left (authors' code)."""
UNCHANGED = 1e-3
"""A pixel that moved by less in every channel is given up at no cost."""


@dataclass(frozen=True)
class CarliniWagnerL0(Narrowing):
    """One `Solver` solve a set of pixels or constant; see `cw_l0` for the method."""

    @property
    def size(self) -> AbstractSize:
        return L0()

    def first(self, x: Images) -> Bool[Tensor, "n 1 h w"]:
        """All pixels are free, [n, 1, h, w]."""
        return torch.ones_like(x[:, :1], dtype=torch.bool)

    def turn(
        self, victim: Victim, inputs: AttackInputs, at: Search, held: Solution, turn: int
    ) -> tuple[Solution, Search]:
        """A solve on the free pixels; of equally many changed ones those held stay."""
        found = self._solve(victim, inputs, at, turn)
        best = nearest(held, found, inputs.x, L0())
        return spent(best, len(inputs.x)), self._next(victim, inputs, found, at)

    def _solve(self, victim: Victim, inputs: AttackInputs, at: Search, turn: int) -> Solution:
        """The penalised L2 problem on the free pixels, from where the row stands."""
        problem = SquaredDistancePlus(victim.true_logits, self.objective, self.confidence)
        given = {**context(inputs, at.c), "free": at.bound}
        keys, start = inputs.again("pixels", turn).keys, FromImages(at.x)
        found = self.solver.minimise(
            problem, inputs.x, given, keys=keys, start=start, observe=inputs.observe
        )
        x = torch.where(at.bound, found.x, inputs.x)
        distance = rows.total((x - inputs.x).square())
        return replace(found, x=x, value=(found.value - distance) / at.c)

    def _next(self, victim: Victim, inputs: AttackInputs, found: Solution, at: Search) -> Search:
        """Fewer pixels where these sufficed, else a larger constant, else the end."""
        fewer = at.bound & ~self._given_up(victim, inputs, found, at)
        free = rows.where(found.success, fewer, at.bound)
        x = rows.where(found.success, torch.where(fewer, found.x, inputs.x), at.x)
        c = torch.where(found.success, at.c, at.c * self.growth)
        none = ~rows.flatten(free).any(dim=1)
        return Search(c, free, x, none | (c > self.largest_c))

    def _given_up(
        self, victim: Victim, inputs: AttackInputs, found: Solution, at: Search
    ) -> Tensor:
        """The pixels of least |gradient of f| * |change|, and those that hardly changed."""
        x = found.x.detach().requires_grad_()
        with torch.enable_grad():
            z = victim.true_logits(x)
            f = goal("f6", z, inputs.y, inputs.targets, float("inf"))
            (grad,) = torch.autograd.grad(f.sum(), x)
        change = (found.x - inputs.x).abs()
        moved = at.bound & (change.amax(dim=1, keepdim=True) > UNCHANGED)
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
    *,
    steps: int = 100,
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

    >>> cw_l0(steps=50).name
    'CW-L0-50'
    """
    check_numbers(steps, step_size, initial_c)
    check_growth(initial_c, largest_c, growth)
    check_objective(objective, confidence)
    solver = tanh_solver(L2(), steps, step_size, inset, once(steps, abort_early))
    name = f"CW-L0-{steps}"
    return CarliniWagnerL0(name, None, solver, initial_c, largest_c, growth, objective, confidence)
