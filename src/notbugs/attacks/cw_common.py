"""What the attacks of Carlini and Wagner share, and EAD: searches over penalised problems."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, goal, reached
from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.core.types import Images, Mask, Rows, RowTree
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
"""Share of a search step's iterations, and least number of them, that a row may stand still."""
PROGRESS = 1e-3
"""Relative fall of the objective that counts as progress."""


@dataclass(frozen=True)
class ConstantSearch(AbstractAttack):
    """One `Solver` solve for each of `search_steps` constants, every row having its own.

    `objective` and `confidence` say which images need no change: those are not touched.
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
        left = (~start.success).nonzero()[:, 0]
        if not len(left):
            return start
        return resumed(start, self.search(victim, inputs.select(left)), left)

    @abstractmethod
    def search(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest success of rows that need a change."""


class Search(NamedTuple):
    """Per row: the constant, what may change, where to start, and whether it has ended.

    `bound` is the limit on every pixel for Linf, and for L0 which pixels are free.
    """

    c: Rows
    bound: Shaped[Tensor, "n ..."]
    x: Images
    done: Mask


@dataclass(frozen=True)
class Narrowing(AbstractAttack):
    """Solves one after the other, in which a row may change ever less, until none succeeds.

    Where a solve fails, the constant grows by `growth`, up to `largest_c`.
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
        return 10 * self.solver.max_steps

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The success that changes least."""
        best = unchanged(victim, inputs, self.objective, self.confidence)
        c = torch.full_like(best.value, self.initial_c, dtype=torch.float32)
        at, turn = Search(c, self.first(inputs.x), inputs.x, best.success), 0
        while len(left := (~at.done).nonzero()[:, 0]):
            own, held = rows.select(at, left), without_cost(best, left)
            found, own = self.turn(victim, inputs.select(left), own, held, turn)
            best = resumed(best, found, left)
            at, turn = rows.scatter(at, left, own), turn + 1
        return best

    @abstractmethod
    def first(self, x: Images) -> Shaped[Tensor, "n ..."]:
        """The bound that all rows begin with."""

    @abstractmethod
    def turn(
        self, victim: Victim, inputs: AttackInputs, at: Search, held: Solution, turn: int
    ) -> tuple[Solution, Search]:
        """(the better of `held` and what one solve finds, where the rows go on)."""


def without_cost(best: Solution, index: Int[Tensor, " m"]) -> Solution:
    """The rows `index` of a solution, as one that has cost nothing."""
    none = torch.zeros_like(best.steps[index])
    return replace(best.select(index), steps=none, zero_grads=none, forwards=0, backwards=0)


def tanh_solver(
    size: AbstractSize, steps: int, step_size: float, inset: float, stop: AbstractStop
) -> Solver:
    """Adam in w, x' = (tanh(w) + 1) / 2, that keeps the success nearest in `size`."""
    return Solver(
        within=Everywhere(),
        rule=Adam(step_size),
        max_steps=steps,
        parameterization=Tanh(inset),
        keep=SmallestSuccess(size),
        stop=stop,
    )


def context(inputs: AttackInputs, c: Shaped[Tensor, " n"]) -> RowTree:
    """What the penalised objectives need of each row."""
    given = {"x": inputs.x, "c": c}
    if inputs.targets is not None:
        return {**given, "targets": inputs.targets}
    if inputs.y is None:
        raise bad_value("y", "be given without `targets`", None)
    return {**given, "y": inputs.y}


def unchanged(victim: Victim, inputs: AttackInputs, form: str, confidence: float) -> Solution:
    """The images themselves as a solution: a success where they need no change."""
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


def once(steps: int, abort_early: bool) -> AbstractStop:
    """A row ends a solve at its first success, and early where it makes no progress."""
    return Either(OnSuccess(), patient(steps)) if abort_early else OnSuccess()


def check_numbers(steps: int, step_size: float, initial_c: float) -> None:
    """Refuses counts, steps and constants that are not above 0."""
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    check_positive(initial_c, "initial_c")


def check_growth(initial_c: float, largest_c: float, growth: float) -> None:
    """Refuses constants that do not grow from the first to the largest."""
    if not largest_c >= initial_c:
        raise bad_value("largest_c", f"be at least initial_c={initial_c:g}", largest_c)
    if not 1 < growth < float("inf"):
        raise bad_value("growth", "be a finite number above 1", growth)
