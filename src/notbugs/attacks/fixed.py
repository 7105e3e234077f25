"""Fixed-budget attacks: one solver, one objective, any number of restarts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.losses import ValueOfLogits, aimed, averaged, cross_entropy, least_classes
from notbugs.attacks.result import restarted
from notbugs.attacks.stopping import without_giving_up
from notbugs.core.errors import check_count
from notbugs.core.types import Images, Keys, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractObjective,
    AbstractSize,
    AbstractStart,
    AtCenter,
    Never,
    OnSuccess,
    Solution,
    Solver,
    StepInfo,
    Threat,
    UniformIn,
)
from notbugs.models import prepared


class SampledAttack(AbstractAttack):
    """An attack by a solver that averages `samples` passes of a randomised model."""

    solver: Solver
    samples: int

    @property
    def votes(self) -> int:
        return self.samples

    def with_samples(self, samples: int) -> "SampledAttack":
        """The attack on the average of at least `samples` passes, without early stopping."""
        if samples == 1:
            return self
        solver = without_early_stopping(self.solver)
        return replace(self, samples=max(self.samples, samples), solver=solver)

    def without_giving_up(self) -> "SampledAttack":
        return replace(self, solver=without_giving_up(self.solver))


@dataclass(frozen=True)
class Attack(SampledAttack):
    """A solver within a threat, a loss and a number of restarts.

    `random_start` draws the first point uniformly from the ball, for every restart. Of all
    restarts the first success is kept, else the lowest objective. `samples` above 1 averages
    the loss over that many passes of a randomised model (expectation over transformation).
    """

    name: str
    threat: Threat
    solver: Solver
    loss: ValueOfLogits = cross_entropy
    random_start: bool = True
    restarts: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        check_count(self.restarts, "restarts")
        check_count(self.samples, "samples")

    @property
    def size(self) -> AbstractSize:
        return self.threat.norm

    @property
    def requirements(self) -> Requirements:
        gradients = self.solver.rule.needs.derivatives
        return Requirements(gradients=gradients, classes=least_classes(self.loss))

    @property
    def passes(self) -> int:
        return self.solver.total_steps * self.restarts * self.samples

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best of all restarts; later ones only run on the rows not yet broken."""

        def run(restart: int, index: Tensor) -> Solution:
            return self._run(victim, inputs.select(index).again(restart))

        return restarted(self._run(victim, inputs), self.restarts, run)

    @prepared("x", kind=object)
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
        """One restart as the solver returns it: no verification, no mode change.

        For training loops, which must call it under `frozen(model)`.
        """
        objective, context = self.objective(model, y, targets)
        return self.solver.minimise(
            objective, x, context, keys=keys, start=self._start(), observe=observe
        )

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        objective, context = aimed(logits, self.loss, y, targets)
        return averaged(objective, self.samples), context

    def _start(self) -> AbstractStart:
        return UniformIn() if self.random_start else AtCenter()

    def _run(self, victim: Victim, inputs: AttackInputs) -> Solution:
        objective, context = self.objective(victim.logits, inputs.y, inputs.targets)
        exact = None
        if victim.exact is not None:
            exact, _ = self.objective(victim.exact, inputs.y, inputs.targets)
        solution = self.solver.minimise(
            objective,
            inputs.x,
            context,
            keys=inputs.keys,
            start=self._start(),
            exact=exact,
            observe=inputs.observe,
        )
        return counted(solution, self.samples)


def counted(solution: Solution, samples: int) -> Solution:
    """`solution` with `samples` passes of the model counted per pass of its objective."""
    if samples == 1:
        return solution
    forwards, backwards = samples * solution.forwards, samples * solution.backwards
    return replace(solution, forwards=forwards, backwards=backwards)


def without_early_stopping(solver: Solver) -> Solver:
    """The solver without stops: a single success of a random model may be chance."""
    solver = without_giving_up(solver)
    return replace(solver, stop=Never()) if isinstance(solver.stop, OnSuccess) else solver
