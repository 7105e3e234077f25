"""An untargeted attack that tries the likeliest wrong classes one after the other."""

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
    prediction is a success. With a threat, a class is tried on the rows that still
    stand; without one, on every row, and the nearest success is returned. A solver that
    may leave the threat succeeds only inside it.

    - `norm`: what distance is measured in
    - `loss`: (logits, y, targets) -> value; `targeted_dlr` needs 4 classes and falls back
      to `difference` where the model has fewer
    - `targets_tried`: number of classes, at most all wrong ones; 0 for one run with the
      margin to whichever class is nearest. Where the caller names targets, one run goes
      towards those, with the margin.
    - `random_start`: each run starts at a random point of the solver's set
    - `samples`: passes averaged for a model that is random in itself

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
        """The best of all classes tried; with a threat, later ones see what is not yet broken."""
        if inputs.targets is not None or not self.targets_tried:
            return self._once(victim, inputs, inputs.targets)
        if inputs.y is None:
            raise bad_value("y", "be given without `targets`", None)
        ranked = self._ranked(victim, inputs.x, inputs.y)
        best = self._once(victim, inputs, ranked[:, 0])
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
            return nearest(best, self._once(victim, inputs, targets), inputs.x, self.norm)
        left = (~best.success).nonzero()[:, 0]
        if not len(left):
            return best
        return better(best, self._once(victim, inputs.select(left), targets[left]), left)

    def _once(self, victim: Victim, inputs: AttackInputs, targets: Tensor | None) -> Solution:
        context = self._context(inputs, targets)
        found = self.solver.minimise(
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
        return counted(found, self.samples)

    def _context(self, inputs: AttackInputs, targets: Tensor | None) -> RowTree:
        known = {"y": inputs.y, "targets": targets, "center": inputs.x}
        return {name: value for name, value in known.items() if value is not None}

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
        found = self.objective(x, context, draw)
        if found.success is None:
            return found
        size = self.threat.norm.size(x.detach() - center)
        # How far the nearest misclassified point is outside the threat, in radii.
        gap = torch.where(found.success, size / self.threat.eps - 1, float("inf"))
        return found._replace(success=found.success & (size <= self.threat.eps), gap=gap)
