"""Minimum-norm attacks: the nearest misclassified image, without a bound on its distance."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
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
    def requirements(self) -> Requirements:
        return Requirements(gradients=self.solver.rule.needs.derivatives)

    @property
    def passes(self) -> int:
        return self.solver.total_steps


@dataclass(frozen=True)
class MinimumNorm(BySolver):
    """A solver within the pixel box that keeps, for each row, the nearest success.

    Approximates: minimise norm(x' - x) subject to x' misclassified (or classified as the
    target) and 0 <= x' <= 1. A row that is misclassified from the start has distance 0;
    one that is never broken has `success` False and its best point as `x_adv`.
    """

    loss: ValueOfLogits = cross_entropy

    def __post_init__(self) -> None:
        if self.solver.keep != SmallestSuccess(self.norm):
            raise bad_value("solver", "keep SmallestSuccess(norm)", repr(self.solver.keep))

    @property
    def requirements(self) -> Requirements:
        return replace(super().requirements, classes=least_classes(self.loss), low_precision=False)

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest success visited, starting from the image itself."""
        objective, context = self.objective(victim.logits, inputs.y, inputs.targets)
        exact = None
        if victim.exact is not None:
            exact, _ = self.objective(victim.exact, inputs.y, inputs.targets)
        return self.solver.minimise(
            objective, inputs.x, context, keys=inputs.keys, exact=exact, observe=inputs.observe
        )

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        return aimed(logits, self.loss, y, targets)
