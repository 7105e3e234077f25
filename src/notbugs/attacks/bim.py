"""The basic iterative method (BIM) and the least-likely-class method."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Victim
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import Targeted, UntargetedByTarget, ValueOfLogits, cross_entropy
from notbugs.core.errors import check_count, check_positive
from notbugs.core.types import Images, Logits, RowTree
from notbugs.engine import (
    AbstractKeep,
    AbstractObjective,
    AbstractSize,
    Linf,
    Never,
    OnSuccess,
    Solution,
    Solver,
    Steepest,
    SuccessThenLowest,
    Threat,
)


def bim(
    eps: float,
    *,
    step_size: float = 1 / 255,
    steps: int | None = None,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
    stop_on_success: bool = False,
) -> Attack:
    """An attack by sign steps of one pixel level from the image itself, clipped to the ball.

    x <- clip(x + step_size * sign(gradient of loss(x, y))) to |x - x_0| <= eps and [0, 1].

    - `eps`, `step_size`: pixel units of [0, 1], e.g. 8/255; Linf
    - `steps`: gradient steps; None takes min(L + 4, 1.25 L), rounded up, where
      L = eps / (1/255) is the radius in pixel levels
    - `loss`: (logits, classes) -> [n], high if a row is far from its class
    - `keep`: which of the visited points is returned
    - `stop_on_success`: a row stops at its first success

    **Source**: Kurakin et al. 2016 (arXiv 1607.02533), section 2.2.
    **Differs from the paper**: the best visited point is returned, not the last one;
    pass `keep=Last()` for the paper's.

    **Raises** ValueError for `eps`, `step_size` or `steps` that are not above 0.

    >>> bim(8 / 255).name
    'BIM-10'
    """
    count = default_steps(eps) if steps is None else steps
    solver = _solver(eps, step_size, count, keep, stop_on_success)
    return Attack(f"BIM-{count}", Threat(Linf(), eps), solver, loss, random_start=False)


def least_likely(
    eps: float,
    *,
    step_size: float = 1 / 255,
    steps: int | None = None,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
) -> "LeastLikely":
    """An attack by sign steps towards the class that the clean image is least likely to be.

    Minimises -log p(t | x) with t = argmin over k of p(k | x_0). As in the paper,
    any wrong prediction is a success, not only t: its tables report accuracy.

    - `eps`, `step_size`, `steps`, `keep`: as in `bim`

    With `targets` in the call, those replace t, and only they count as a success.

    **Source**: Kurakin et al. 2016 (arXiv 1607.02533), section 2.3.
    **Differs from the paper**: of the visited points a misclassified one is returned
    if there is one, then the most confident in t; `keep=Last()` for the paper's.

    **Raises** ValueError for `eps`, `step_size` or `steps` that are not above 0.

    >>> least_likely(16 / 255).name
    'Least-likely-20'
    """
    count = default_steps(eps) if steps is None else steps
    solver = _solver(eps, step_size, count, keep, stop_on_success=False)
    return LeastLikely(f"Least-likely-{count}", Threat(Linf(), eps), solver)


def default_steps(eps: float) -> int:
    """min(L + 4, 1.25 L) rounded up, for a Linf radius of L pixel levels of 1/255.

    **Source**: Kurakin et al. 2016 (arXiv 1607.02533), section 2.2.

    >>> default_steps(8 / 255), default_steps(32 / 255)
    (10, 36)
    """
    check_positive(eps, "eps")
    levels = eps * 255
    return math.ceil(round(min(levels + 4, 1.25 * levels), 6))  # 10.000000001 is 10


@final
@dataclass(frozen=True)
class LeastLikely(AbstractAttack):
    """A solver run towards the least likely class of each clean image; see `least_likely`."""

    name: str
    threat: Threat
    solver: Solver

    @property
    def size(self) -> AbstractSize:
        return self.threat.norm

    @property
    def passes(self) -> int:
        return self.solver.max_steps

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """One run towards the least likely class by the original model's clean logits."""
        if inputs.targets is not None:
            return self._run(victim, inputs, inputs.targets)
        with torch.no_grad():
            least_likely = victim.true_logits(inputs.x).argmin(dim=1)
        solution = self._run(victim, inputs, least_likely)
        return replace(solution, forwards=solution.forwards + len(inputs.x))

    def _run(self, victim: Victim, inputs: AttackInputs, targets: Tensor) -> Solution:
        context: RowTree = {"targets": targets}
        if inputs.targets is None and inputs.y is not None:
            context = {"targets": targets, "y": inputs.y}
        exact = None if victim.exact is None else _objective(victim.exact, context)
        return self.solver.minimise(
            _objective(victim.logits, context),
            inputs.x,
            context,
            keys=inputs.keys,
            exact=exact,
            observe=inputs.observe,
        )


def _objective(logits: Callable[[Images], Logits], context: RowTree) -> AbstractObjective:
    return UntargetedByTarget(logits, _target_cross_entropy) if "y" in context else Targeted(logits)


def _target_cross_entropy(logits: Logits, y: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits, targets)


def _solver(
    eps: float, step_size: float, steps: int, keep: AbstractKeep, stop_on_success: bool
) -> Solver:
    check_count(steps, "steps")
    return Solver(
        within=Threat(Linf(), eps).within(),
        rule=Steepest(Linf(), step_size),
        max_steps=steps,
        keep=keep,
        stop=OnSuccess() if stop_on_success else Never(),
    )
