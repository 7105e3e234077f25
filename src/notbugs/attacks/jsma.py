"""JSMA: changes two features per step, chosen by a saliency map."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch

from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.losses import column, margin
from notbugs.attacks.minimum import MinimumNorm
from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    L0,
    AbstractObjective,
    Box,
    Draw,
    Evaluation,
    OnSuccess,
    SmallestSuccess,
    Solution,
    Solver,
)
from notbugs.engine.either import Either
from notbugs.engine.saliency import LogitPair, ProbabilityPair
from notbugs.engine.stalled import Stalled
from notbugs.models.decision import classified_as, misclassified

VARIANTS = ("Z", "F")


@final
@dataclass(frozen=True)
class TargetAndRest(AbstractObjective):
    """minus the target's logit (Z) or probability (F); for Z the rest's sum is the output.

    Context: `targets` [n], and optionally `y` [n], with which any other class is a success.
    """

    logits: Callable[[Images], Logits]
    variant: str

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        z, targets = at_least_float32(self.logits(x)), column(context, "targets")
        y = None if context is None else context.get("y")
        scores = z if self.variant == "Z" else z.softmax(dim=1)
        target_score = scores.gather(1, targets[:, None])
        rest = scores.sum(dim=1, keepdim=True) - target_score if self.variant == "Z" else None
        success = classified_as(z, targets) if y is None else misclassified(z, y)
        return Evaluation(-target_score[:, 0], success, rest)


@dataclass(frozen=True)
class JSMA(MinimumNorm):
    """See `jsma`."""

    variant: str = "Z"
    share: float = 0.145

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The first success with at most `share` of the features changed."""
        if inputs.targets is None:
            if inputs.y is None:
                raise bad_value("y", "be given without `targets`", None)
            with torch.no_grad():
                z = victim.true_logits(inputs.x)
            second = z.scatter(1, inputs.y[:, None], float("-inf")).argmax(dim=1)
            context = {"targets": second, "y": inputs.y}
        else:
            context = {"targets": inputs.targets}
        steps = max(1, int(self.share * inputs.x[0].numel() / 2))
        solver = replace(self.solver, max_steps=steps)
        objective, _ = self.objective(victim.true_logits, inputs.y, context["targets"])
        solution = solver.minimise(
            objective, inputs.x, context, keys=inputs.keys, observe=inputs.observe
        )
        extra = len(inputs.x) if inputs.targets is None else 0
        return replace(solution, forwards=solution.forwards + extra)

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        if targets is None:
            raise bad_value("targets", "be given", None)
        return TargetAndRest(logits, self.variant), {"targets": targets}


def jsma(*, variant: str = "F", change: float = 1.0, share: float = 0.145) -> JSMA:
    """An attack that changes the two features of the largest saliency in each step.

    A feature is one channel value of one pixel. With alpha the gradient of the target's
    score and beta that of the sum of all others, each step changes the pair

        argmax over p, q of -(alpha_p + alpha_q) * (beta_p + beta_q)

    of those whose first sum is positive and second negative, until the target is predicted.

    - `variant`: "Z" takes the scores from the logits, "F" from the probabilities; F costs
      one backward pass a step, Z two
    - `change`: added to a feature by a step, in pixel units; -1 darkens
    - `share`: largest share of features changed, 0..1 (half as many steps)

    A row stops early when no such pair exists. With targets, the row succeeds at its target.
    Without, it aims at the second most likely class of the clean image, and any wrong
    prediction is a success.

    **Source**: Papernot et al. 2015 (arXiv 1511.07528), Algorithms 2 and 3; the variants'
    names are Carlini & Wagner's (arXiv 1608.04644, section III-B).
    **Differs from the paper**: the untargeted form is ours; a changed feature is
    excluded once it is at 0 or 1, not at once, which is the same for a change of 1.

    **Raises** ValueError for an unknown variant, and numbers out of range.

    >>> jsma(variant="Z").name
    'JSMA-Z'
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    if not 0 < share <= 1:
        raise bad_value("share", "lie in (0, 1]", share)
    rule = LogitPair(change) if variant == "Z" else ProbabilityPair(change)
    solver = Solver(
        within=Box(),
        rule=rule,
        max_steps=1,
        keep=SmallestSuccess(L0()),
        stop=Either(OnSuccess(), Stalled()),
    )
    return JSMA(f"JSMA-{variant}", None, L0(), solver, margin, variant, share)
