"""Attacks of a fixed budget: one solver, one objective, any number of restarts."""

from collections.abc import Callable
from dataclasses import dataclass

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.losses import (
    Away,
    Towards,
    ValueOfLogits,
    averaged,
    cross_entropy,
    dlr,
)
from notbugs.attacks.result import better
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractObjective,
    AbstractSize,
    AbstractStart,
    AtCenter,
    Solution,
    Solver,
    StepInfo,
    Threat,
    UniformIn,
)


@dataclass(frozen=True)
class Attack(AbstractAttack):
    """A solver within a threat, a loss and a number of restarts.

    `random_start` draws the first point uniformly from the ball; every restart draws
    anew. A restart keeps the first success, else the lowest objective. `samples` above 1
    averages the loss over that many passes of a model that is random in itself
    (expectation over transformations).
    """

    name: str
    threat: Threat
    solver: Solver
    loss: ValueOfLogits = cross_entropy
    random_start: bool = True
    restarts: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        """Refuses an empty number of restarts or samples."""
        check_count(self.restarts, "restarts")
        check_count(self.samples, "samples")

    @property
    def size(self) -> AbstractSize:
        return self.threat.norm

    @property
    def needs_grad(self) -> bool:
        return self.solver.rule.needs_grad

    @property
    def passes(self) -> int:
        return self.solver.max_steps * self.restarts * self.samples

    @property
    def least_classes(self) -> int:
        return 3 if self.loss is dlr else 2

    def find(self, victim: Victim, case: Case) -> Solution:
        """The best of all restarts; later ones only see the rows that still stand."""
        best = self._once(victim, case)
        for restart in range(1, self.restarts):
            left = (~best.success).nonzero()[:, 0]
            if not len(left):
                break
            again = self._once(victim, case.select(left).again(restart))
            best = better(best, again, left)
        return best

    def craft(
        self,
        model: Callable[[Images], Logits],
        x: Images,
        y: Labels | None = None,
        *,
        targets: Labels | None = None,
        keys: Keys,
        observe: Callable[[StepInfo], None] | None = None,
    ) -> Solution:
        """One restart as the solver returns it: no checks, no verification, no mode change.

        For training loops, which call it under `frozen(model)` themselves.
        """
        objective, context = self.objective(model, y, targets)
        return self.solver.minimise(
            objective, x, context, keys=keys, start=self._start(), observe=observe
        )

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        if targets is not None and self.loss is dlr:
            raise bad_value(
                "loss",
                "be defined for targets",
                "dlr, which is constant where the target ranks third",
                "Use margin or cross_entropy; apgd_targeted for the targeted DLR loss.",
            )
        if targets is not None:
            return averaged(Towards(logits, self.loss), self.samples), {"targets": targets}
        if y is not None:
            return averaged(Away(logits, self.loss), self.samples), {"y": y}
        raise bad_value("y", "be given without `targets`", None)

    def _start(self) -> AbstractStart:
        return UniformIn() if self.random_start else AtCenter()

    def _once(self, victim: Victim, case: Case) -> Solution:
        objective, context = self.objective(victim.logits, case.y, case.targets)
        exact = None
        if victim.exact is not None:
            exact, _ = self.objective(victim.exact, case.y, case.targets)
        return self.solver.minimise(
            objective,
            case.x,
            context,
            keys=case.keys,
            start=self._start(),
            exact=exact,
            observe=case.observe,
        )
