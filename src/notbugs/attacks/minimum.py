"""Minimum-norm attacks: the nearest misclassified image, whatever its distance."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from notbugs.attacks.attack import AbstractAttack, Case, Demands, Victim
from notbugs.attacks.losses import ValueOfLogits, aimed, cross_entropy, least_classes
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractObjective,
    AbstractSize,
    SmallestSuccess,
    Solution,
    Solver,
)


@dataclass(frozen=True)
class BySolver(AbstractAttack):
    """An attack by one solver whose distances are measured in `norm`."""

    norm: AbstractSize
    solver: Solver

    @property
    def size(self) -> AbstractSize:
        return self.norm

    @property
    def demands(self) -> Demands:
        return Demands(gradients=self.solver.rule.needs.derivatives)

    @property
    def passes(self) -> int:
        return self.solver.total_steps


@dataclass(frozen=True)
class MinimumNorm(BySolver):
    """A solver within the pixel box that keeps, for each row, the nearest success.

    Approximates: minimise norm(x' - x) subject to x' misclassified (or classified as the
    target) and 0 <= x' <= 1. A row that is wrong from the start has distance 0; one that
    was never broken has `success` False and its best try as `x_adv`.
    """

    loss: ValueOfLogits = cross_entropy

    def __post_init__(self) -> None:
        if self.solver.keep != SmallestSuccess(self.norm):
            raise bad_value("solver", "keep SmallestSuccess(norm)", repr(self.solver.keep))

    @property
    def demands(self) -> Demands:
        return replace(super().demands, classes=least_classes(self.loss), low_precision=False)

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
        return aimed(logits, self.loss, y, targets)
