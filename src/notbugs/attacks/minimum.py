"""Minimum-norm attacks: the nearest misclassified image, whatever its distance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.losses import Away, Towards, ValueOfLogits, cross_entropy
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractObjective,
    AbstractSize,
    SmallestSuccess,
    Solution,
    Solver,
    Threat,
)


@dataclass(frozen=True)
class MinimumNorm(AbstractAttack):
    """A solver within the pixel box that keeps, for each row, the nearest success.

    Approximates: minimise norm(x' - x) subject to x' misclassified (or classified as the
    target) and 0 <= x' <= 1. A row that is wrong from the start has distance 0; one that
    was never broken has `success` False and its best try as `x_adv`.
    """

    name: str
    threat: Threat | None
    norm: AbstractSize
    solver: Solver
    loss: ValueOfLogits = cross_entropy

    gains_from_speed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuses a solver that would keep another point than the nearest."""
        if self.solver.keep != SmallestSuccess(self.norm):
            raise bad_value("solver", "keep SmallestSuccess(norm)", repr(self.solver.keep))

    @property
    def size(self) -> AbstractSize:
        return self.norm

    @property
    def needs_grad(self) -> bool:
        return self.solver.rule.needs_grad

    @property
    def passes(self) -> int:
        return self.solver.max_steps

    def find(self, victim: Victim, case: Case) -> Solution:
        """The nearest success seen on the way from the image itself."""
        objective, context = self.objective(victim.logits, case.y, case.targets)
        exact = None
        if victim.exact is not None:
            exact, _ = self.objective(victim.exact, case.y, case.targets)
        return self.solver.minimise(
            objective, case.x, context, keys=case.keys, exact=exact, observe=case.observe
        )

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        if targets is not None:
            return Towards(logits, self.loss), {"targets": targets}
        if y is not None:
            return Away(logits, self.loss), {"y": y}
        raise bad_value("y", "be given without `targets`", None)
