"""Carlini and Wagner's L0 attack: it fixes the least useful pixels until none can be fixed."""

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
    first_success,
    tanh_solver,
)
from notbugs.attacks.cw_objectives import SquaredDistancePlus, goal
from notbugs.core import rows
from notbugs.core.types import Images
from notbugs.engine import L0, L2, AbstractSize, FromImages, Solution
from notbugs.engine.solution import nearest

SHARE = 0.3
"""Pixels fixed at once, as a share of the root of the number of changed ones (authors' code)."""
UNCHANGED = 1e-3
"""A pixel that changed by less in every channel is fixed in any case."""


@dataclass(frozen=True)
class CarliniWagnerL0(Narrowing):
    """One `Solver` solve per set of pixels and constant; see `cw_l0` for the method."""

    @property
    def size(self) -> AbstractSize:
        return L0()

    def first(self, x: Images) -> Bool[Tensor, "n 1 h w"]:
        """All pixels are free, [n, 1, h, w]."""
        return torch.ones_like(x[:, :1], dtype=torch.bool)

    def solve_once(
        self, victim: Victim, inputs: AttackInputs, search: Search, kept: Solution, k: int
    ) -> tuple[Solution, Search]:
        """A solve on the free pixels; with equally many changed pixels `kept` is preferred."""
        solution = self._solve(victim, inputs, search, k)
        best = nearest(kept, solution, inputs.x, L0())
        next_search = self._next(victim, inputs, solution, search)
        return with_passes(best, len(inputs.x)), next_search

    def _solve(self, victim: Victim, inputs: AttackInputs, search: Search, k: int) -> Solution:
        """The penalised L2 problem's solution on the free pixels, from the row's last point."""
        problem = SquaredDistancePlus(victim.true_logits, self.objective, self.confidence)
        columns = {**context(inputs, search.c), "free": search.bound}
        keys, start = inputs.again("pixels", k).keys, FromImages(search.x)
        solution = self.solver.minimise(
            problem, inputs.x, columns, keys=keys, start=start, observe=inputs.observe
        )
        x = torch.where(search.bound, solution.x, inputs.x)
        distance = rows.total((x - inputs.x).square())
        return replace(solution, x=x, value=(solution.value - distance) / search.c)

    def _next(
        self, victim: Victim, inputs: AttackInputs, solution: Solution, search: Search
    ) -> Search:
        """The next state: fewer free pixels after a success, else a larger constant, else done."""
        success, last = solution.success, solution.x
        fewer = search.bound & ~self._to_fix(victim, inputs, solution, search)
        free = rows.where(success, fewer, search.bound)
        # With all pixels free a row was never broken, and goes on from where it is.
        move = success | rows.flatten(search.bound).all(dim=1)
        x = rows.where(move, torch.where(free, last, inputs.x), search.x)
        c = torch.where(success, search.c, search.c * self.growth)
        no_pixel = ~rows.flatten(free).any(dim=1)
        return Search(c, free, x, no_pixel | (c > self.largest_c))

    def _to_fix(
        self, victim: Victim, inputs: AttackInputs, solution: Solution, search: Search
    ) -> Tensor:
        """The pixels of smallest |gradient of f| * |change|, and those that hardly changed."""
        x = solution.x.detach().requires_grad_()
        with torch.enable_grad():
            z = victim.true_logits(x)
            f = goal("f6", z, inputs.y, inputs.targets, float("inf"))
            (grad,) = torch.autograd.grad(f.sum(), x)
        change = (solution.x - inputs.x).abs()
        changed = search.bound & (change.amax(dim=1, keepdim=True) > UNCHANGED)
        score = grad.abs().sum(dim=1, keepdim=True) * change.sum(dim=1, keepdim=True)
        scores = rows.flatten(torch.where(changed, score, float("inf")))
        rank = scores.argsort(dim=1, stable=True).argsort(dim=1).reshape(changed.shape)
        count = rows.flatten(changed).sum(dim=1)
        fixed = (SHARE * count.float().sqrt()).floor().clamp(min=1)
        return ~changed | (rank < rows.expand(fixed, rank))


def with_passes(solution: Solution, passes: int) -> Solution:
    """`solution` with `passes` more forward and backward passes."""
    more = {"forwards": solution.forwards + passes, "backwards": solution.backwards + passes}
    return replace(solution, **more)


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
    """An attack that changes few pixels: it fixes the least useful ones one after the other.

    Repeats, for each row and its set S of pixels that may change (at first all):

        minimise ||x' - x||_2^2 + c * f(x')   subject to x' = x outside S

    from the row's last point (if it was never broken, after two solves from images of noise), until
    f's goal is reached; then the pixels of S with the smallest |gradient of f| * |change| are
    removed from S. If the goal is not reached, c grows; beyond `largest_c` the search returns the
    success that changes the fewest pixels.

    - `steps`: Adam steps at most per S and c; `step_size`: Adam's, in w (see `cw_l2`)
    - `initial_c`, `largest_c`, `growth`: the constants tried, c times `growth` on failure
    - `objective`, `confidence`, `inset`: as in `cw_l2`
    - `abort_early`: a row stops a solve whose objective no longer decreases

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section VI-B; how many pixels
    are removed at once (0.3 times the root of those changed) is from the authors' code.
    **Differs from the paper**: larger steps and constants, for 100 steps instead of 1000
    (code: c from 1e-3, doubled); all channels of a pixel are removed together; f6 without its
    floor ranks the pixels, whatever the objective.

    **Raises** ValueError for numbers out of range and an unknown objective.

    >>> cw_l0(steps=50).name
    'CW-L0-50'
    """
    check_numbers(steps, step_size, initial_c)
    check_growth(initial_c, largest_c, growth)
    check_objective(objective, confidence)
    solver = tanh_solver(L2(), steps, step_size, inset, first_success(steps, abort_early))
    name = f"CW-L0-{steps}"
    return CarliniWagnerL0(name, None, solver, initial_c, largest_c, growth, objective, confidence)
