"""An untargeted attack by a targeted run for each of the likeliest wrong classes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.fixed import SampledAttack, counted
from notbugs.attacks.losses import (
    PairwiseLoss,
    Targeted,
    Untargeted,
    UntargetedByTarget,
    averaged,
    column,
    difference,
    margin,
    targeted_dlr,
)
from notbugs.attacks.minimum import BySolver
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractObjective,
    AtCenter,
    Draw,
    Evaluation,
    Solution,
    Threat,
    UniformIn,
)
from notbugs.engine.solution import better, nearest


@dataclass(frozen=True)
class MultiTargeted(SampledAttack, BySolver):
    """A solver run towards each of the `targets_tried` likeliest wrong classes.

    Minimises loss(logits(x'), y, t) for t in the order of the clean logits; any wrong
    prediction is a success. With a threat, a class is tried on the rows not yet
    broken; without one, on every row, and the nearest success is returned. Successes outside
    the threat do not count.

    - `norm`: the norm of the distance
    - `loss`: (logits, y, targets) -> value; `targeted_dlr` needs 4 classes; with
      fewer `difference` is used instead
    - `targets_tried`: number of classes, at most all wrong ones; 0: one run on the margin.
      If the call has `targets`, one run on the margin towards those.
    - `random_start`: each run starts at a random point of the solver's set
    - `samples`: passes averaged for a randomised model

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), section 4, for both of its uses.
    """

    loss: PairwiseLoss = difference
    targets_tried: int = 9
    random_start: bool = False
    samples: int = 1

    def __post_init__(self) -> None:
        check_count(self.targets_tried, "targets_tried", 0)
        check_count(self.samples, "samples")

    @property
    def passes(self) -> int:
        return super().passes * max(self.targets_tried, 1) * self.samples

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best of all runs; with a threat, later ones only run on the rows not yet broken."""
        if inputs.targets is not None or not self.targets_tried:
            return self._run(victim, inputs, inputs.targets)
        if inputs.y is None:
            raise bad_value("y", "be given without `targets`", None)
        ranked = self._ranked(victim, inputs.x, inputs.y)
        best = self._run(victim, inputs, ranked[:, 0])
        best = replace(best, forwards=best.forwards + len(inputs.x))
        for rank in range(1, ranked.shape[1]):
            best = self._next(victim, inputs.again("target", rank), ranked[:, rank], best)
        return best

    def _ranked(self, victim: Victim, x: Images, y: Labels) -> Tensor:
        """The likeliest wrong classes of the clean images, [n, classes to try]."""
        with torch.no_grad():
            logits = victim.true_logits(x)
        count = min(self.targets_tried, logits.shape[1] - 1)
        wrong = logits.scatter(1, y[:, None], float("-inf"))
        return wrong.argsort(dim=1, descending=True, stable=True)[:, :count]

    def _next(
        self, victim: Victim, inputs: AttackInputs, targets: Tensor, best: Solution
    ) -> Solution:
        if self.threat is None:
            return nearest(best, self._run(victim, inputs, targets), inputs.x, self.norm)
        remaining = (~best.success).nonzero()[:, 0]
        if not len(remaining):
            return best
        return better(
            best, self._run(victim, inputs.select(remaining), targets[remaining]), remaining
        )

    def _run(self, victim: Victim, inputs: AttackInputs, targets: Tensor | None) -> Solution:
        context = self._context(inputs, targets)
        solution = self.solver.minimise(
            self._objective(victim.logits, inputs, targets, victim.model.classes),
            inputs.x,
            context,
            keys=inputs.keys,
            start=UniformIn() if self.random_start else AtCenter(),
            exact=None
            if victim.exact is None
            else self._objective(victim.exact, inputs, targets, victim.model.classes),
            observe=inputs.observe,
        )
        return counted(solution, self.samples)

    def _context(self, inputs: AttackInputs, targets: Tensor | None) -> RowTree:
        columns = {"y": inputs.y, "targets": targets, "center": inputs.x}
        return {name: value for name, value in columns.items() if value is not None}

    def _objective(
        self,
        logits: Callable[[Images], Logits],
        inputs: AttackInputs,
        targets: Tensor | None,
        classes: int,
    ) -> AbstractObjective:
        objective: AbstractObjective
        if inputs.targets is not None:
            objective = Targeted(logits, margin)
        elif targets is None:
            objective = Untargeted(logits, margin)
        else:
            few = self.loss is targeted_dlr and classes < 4
            objective = UntargetedByTarget(logits, difference if few else self.loss)
        objective = averaged(objective, self.samples)
        if self.threat is None or self.solver.within == self.threat.within():
            return objective
        return WithinThreat(objective, self.threat)


@final
@dataclass(frozen=True)
class WithinThreat(AbstractObjective):
    """An objective whose success counts only within a threat around `center`.

    Context: that of the objective, and `center` [n, ...], the original images.
    """

    objective: AbstractObjective
    threat: Threat

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        center = column(context, "center")
        evaluation = self.objective(x, context, draw)
        if evaluation.success is None:
            return evaluation
        size = self.threat.norm.size(x.detach() - center)
        # How far a misclassified point is outside the threat, in radii.
        gap = torch.where(evaluation.success, size / self.threat.eps - 1, float("inf"))
        return evaluation._replace(success=evaluation.success & (size <= self.threat.eps), gap=gap)
