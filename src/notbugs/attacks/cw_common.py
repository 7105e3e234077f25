"""The base of Carlini and Wagner's attacks and of EAD: searches over penalised problems."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, goal, reached
from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.core.types import Images, Keys, Mask, Rows, RowTree
from notbugs.engine import (
    AbstractSize,
    AbstractStop,
    Adam,
    Everywhere,
    OnSuccess,
    Plateau,
    SmallestSuccess,
    Solution,
    Solver,
)
from notbugs.engine.either import Either
from notbugs.engine.solution import resumed
from notbugs.engine.tanh import Tanh

PATIENCE, LEAST_PATIENCE = 0.1, 20
"""Iterations without progress after which a row stops: share of a search step's, and minimum."""
LARGEST_C, LEAST_GROWTH = 1e30, 1.001
"""Bounds of constants that grow, so that a search ends."""
TRIES = 12
"""Solves of a row that none of them breaks, the first two from the image."""
PROGRESS = 1e-3
"""Relative decrease of the objective that counts as progress."""


@dataclass(frozen=True)
class ConstantSearch(AbstractAttack):
    """One `Solver` solve for each of `search_steps` constants, which differ between rows.

    Images that are a success by `objective` and `confidence` already are not changed.
    """

    solver: Solver
    search_steps: int
    initial_c: float
    objective: str
    confidence: float

    @property
    def requirements(self) -> Requirements:
        return Requirements(low_precision=False)

    @property
    def passes(self) -> int:
        return self.solver.max_steps * self.search_steps

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest success over all constants."""
        start = unchanged(victim, inputs, self.objective, self.confidence)
        remaining = (~start.success).nonzero()[:, 0]
        if not len(remaining):
            return start
        return resumed(start, self.search(victim, inputs.select(remaining)), remaining)

    @abstractmethod
    def search(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest success of rows that need a change."""


class Search(NamedTuple):
    """Per row: the constant, the constraint, the start of the next solve, and whether it ended.

    `bound` is the limit on each pixel's change for Linf, and for L0 the mask of free pixels.
    """

    c: Rows
    bound: Shaped[Tensor, "n ..."]
    x: Images
    done: Mask


@dataclass(frozen=True)
class Narrowing(AbstractAttack):
    """Successive solves with ever tighter constraints, until a solve fails.

    When a solve fails, the constant grows by `growth`, up to `largest_c`. A row that was never
    broken goes on from where it is, and after that from images of noise (`any_images`), `TRIES` in
    all.
    """

    solver: Solver
    initial_c: float
    largest_c: float
    growth: float
    objective: str
    confidence: float

    @property
    def requirements(self) -> Requirements:
        return Requirements(low_precision=False)

    @property
    def passes(self) -> int:
        return TRIES * self.solver.max_steps

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The success with the smallest change."""
        best = unchanged(victim, inputs, self.objective, self.confidence)
        c = torch.full_like(best.value, self.initial_c, dtype=torch.float32)
        search, k = Search(c, self.first(inputs.x), inputs.x, best.success), 0
        while len(active := (~search.done).nonzero()[:, 0]):
            part, kept = rows.select(search, active), without_cost(best, active)
            solution, part = self.solve_once(victim, inputs.select(active), part, kept, k)
            best = resumed(best, solution, active)
            stuck, keys = ~best.success[active], inputs.keys[active]
            done = torch.where(stuck, torch.full_like(stuck, k + 1 >= TRIES), part.done)
            part = part._replace(c=part.c.clamp(max=self.largest_c), done=done)
            if k:  # a second solve from where it was did not break it either
                part = part._replace(x=rows.where(stuck, any_images(part.x, keys, k), part.x))
            search, k = rows.scatter(search, active, part), k + 1
        return best

    @abstractmethod
    def first(self, x: Images) -> Shaped[Tensor, "n ..."]:
        """The bound of the first solve."""

    @abstractmethod
    def solve_once(
        self, victim: Victim, inputs: AttackInputs, search: Search, kept: Solution, k: int
    ) -> tuple[Solution, Search]:
        """(the better of `kept` and the result of solve number `k`, the next search state)."""


def any_images(x: Images, keys: Keys, k: int) -> Images:
    """Images of uniform noise like `x`, for start number `k` of rows that nothing broke.

    For odd `k` it is in a drawn share of the pixels alone, mostly a small one, and the rest black.
    """
    keys = random.fold(keys, "another-start", k)
    noise = random.uniform(keys, x.shape[1:]).to(x)
    if k % 2 == 0:
        return noise
    there = random.uniform(random.fold(keys, "there"), (1, *x.shape[2:])).to(x)
    share = random.scalar(random.fold(keys, "share")).to(x).square()
    return noise * (there < rows.expand(share, there))


def without_cost(best: Solution, index: Int[Tensor, " m"]) -> Solution:
    """The rows `index` of a solution, with steps and passes set to 0."""
    none = torch.zeros_like(best.steps[index])
    return replace(best.select(index), steps=none, zero_grads=none, forwards=0, backwards=0)


def valued_by_loss(solution: Solution, x: Images, c: Rows) -> Solution:
    """A solution of ||x' - x||_2^2 + c * f(x') with f(x') as its value.

    Objectives of different constants are not comparable.
    """
    distance = rows.total((solution.x - x).square())
    return replace(solution, value=(solution.value - distance) / c)


def tanh_solver(
    size: AbstractSize, steps: int, step_size: float, inset: float, stop: AbstractStop
) -> Solver:
    """Adam in w, x' = (tanh(w) + 1) / 2, which keeps the success nearest in `size`."""
    return Solver(
        within=Everywhere(),
        rule=Adam(step_size),
        max_steps=steps,
        parameterization=Tanh(inset),
        keep=SmallestSuccess(size),
        stop=stop,
    )


def context(inputs: AttackInputs, c: Shaped[Tensor, " n"]) -> RowTree:
    """The per-row context of the penalised objectives."""
    columns = {"x": inputs.x, "c": c}
    if inputs.targets is not None:
        return {**columns, "targets": inputs.targets}
    if inputs.y is None:
        raise bad_value("y", "be given without `targets`", None)
    return {**columns, "y": inputs.y}


def unchanged(victim: Victim, inputs: AttackInputs, form: str, confidence: float) -> Solution:
    """The images themselves as a solution: a success if they need no change."""
    with torch.no_grad():
        z = victim.true_logits(inputs.x)
        value = goal(form, z, inputs.y, inputs.targets, confidence)
        success = reached(z, inputs.y, inputs.targets, confidence)
    count = torch.zeros(len(inputs.x), dtype=torch.int64, device=inputs.x.device)
    return Solution(
        x=inputs.x,
        value=value,
        success=success,
        gave_up=torch.zeros_like(success),
        steps=count,
        zero_grads=count,
        forwards=len(inputs.x),
        backwards=0,
    )


def no_progress(steps: int) -> Plateau:
    """A stop without progress (early abort), patient enough for Adam's first overshoot."""
    return Plateau(max(LEAST_PATIENCE, round(PATIENCE * steps)), PROGRESS)


def check_objective(objective: str, confidence: float) -> None:
    """Refuses an unknown form, a negative confidence, and one that the objective cannot reach."""
    if objective not in CW_OBJECTIVES:
        raise unknown_name("objective", objective, CW_OBJECTIVES)
    if not (0 <= confidence < float("inf")):
        raise bad_value("confidence", "be a finite number of at least 0", confidence)
    if confidence > 0 and CW_OBJECTIVES[objective].flat:
        raise bad_value(
            "confidence",
            f"be 0 with objective='{objective}'",
            confidence,
            "It is flat past the boundary: use f6.",
        )


def first_success(steps: int, abort_early: bool) -> AbstractStop:
    """A stop at the first success and, with `abort_early`, when there is no progress."""
    return Either(OnSuccess(), no_progress(steps)) if abort_early else OnSuccess()


def check_numbers(steps: int, step_size: float, initial_c: float) -> None:
    """Refuses counts, steps and constants that are not above 0."""
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    check_positive(initial_c, "initial_c")


def check_growth(initial_c: float, largest_c: float, growth: float) -> None:
    """Refuses constants that do not grow from the first to the largest, in float32."""
    if not initial_c <= largest_c <= LARGEST_C:
        raise bad_value("largest_c", f"lie in {initial_c:g}..{LARGEST_C:g}", largest_c)
    if not LEAST_GROWTH <= growth < float("inf"):
        raise bad_value("growth", f"be a finite number of at least {LEAST_GROWTH:g}", growth)
