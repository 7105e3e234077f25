"""Attacks bounded by a distance between images, such as SSIM, CIEDE2000 or LPIPS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.losses import (
    ValueOfLogits,
    aimed,
    cross_entropy,
    least_classes,
    margin,
)
from notbugs.core.errors import check_count, check_positive
from notbugs.core.types import Images, Logits, Mask, Rows, RowTree
from notbugs.engine import (
    L2,
    AbstractObjective,
    AbstractSet,
    AbstractSize,
    AtCenter,
    Box,
    Distance,
    FromImages,
    Never,
    OnSuccess,
    Paced,
    Perceptual,
    Solution,
    Solver,
    WithinDistance,
)
from notbugs.engine.solution import resumed
from notbugs.engine.start import AbstractStart

LogitsOf: TypeAlias = Callable[[Images], Logits]
Problem: TypeAlias = tuple[AbstractObjective, RowTree]
"""An objective to minimise, and its per-row context."""


@dataclass(frozen=True)
class WithinPerception(AbstractAttack):
    """Steps within {x' : distance(x', x) <= bound}.

    See `perceptual_pgd`.
    """

    distance: Distance
    bound: float
    steps: int
    loss: ValueOfLogits
    pace: float
    stop_on_success: bool

    def __post_init__(self) -> None:
        check_positive(self.bound, "bound", "It is in the units of `distance`.")
        check_count(self.steps, "steps")
        check_positive(self.pace, "pace")

    @property
    def size(self) -> AbstractSize:
        return L2()

    @property
    def passes(self) -> int:
        return self.steps

    @property
    def requirements(self) -> Requirements:
        return Requirements(classes=least_classes(self.loss))

    def within(self) -> AbstractSet:
        """The images of the pixel box whose distance is at most the bound."""
        return WithinDistance(self.distance, self.bound)

    def measured(self, x_adv: Images, x: Images) -> Rows:
        """The distance that is bounded."""
        with torch.no_grad():
            return self.distance(x_adv, x)

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best point within the bound, from the image itself."""
        return self._within_bound(victim, inputs, AtCenter())

    def _within_bound(self, victim: Victim, inputs: AttackInputs, start: AbstractStart) -> Solution:
        def problem(logits: LogitsOf) -> Problem:
            return aimed(logits, self.loss, inputs.y, inputs.targets)

        return self._solved(victim, inputs, start, self.within(), problem)

    def _solved(
        self,
        victim: Victim,
        inputs: AttackInputs,
        start: AbstractStart,
        within: AbstractSet,
        problem: Callable[[LogitsOf], Problem],
    ) -> Solution:
        """The solution of `problem` on the victim's logits, confirmed by its exact ones."""
        objective, context = problem(victim.logits)
        exact = None if victim.exact is None else problem(victim.exact)[0]
        solver = Solver(
            within=within,
            rule=Paced(L2(), self.distance, self.pace * self.bound),
            max_steps=self.steps,
            stop=OnSuccess() if self.stop_on_success else Never(),
        )
        return solver.minimise(
            objective,
            inputs.x,
            context,
            keys=inputs.keys,
            start=start,
            exact=exact,
            observe=inputs.observe,
        )


@dataclass(frozen=True)
class Lagrangian(WithinPerception):
    """Rounds of a penalised problem whose weight grows; see `perceptual_lagrangian`."""

    rounds: int
    first_weight: float
    growth: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.rounds, "rounds")
        check_positive(self.first_weight, "first_weight")
        check_positive(self.growth, "growth")

    @property
    def passes(self) -> int:
        return self.steps * (self.rounds + 1)

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best of all rounds; later ones only run on the rows not yet broken."""
        weight = torch.full(
            inputs.x.shape[:1], self.first_weight, dtype=inputs.x.dtype, device=inputs.x.device
        )
        best = self._round(victim, inputs, weight, AtCenter())
        for k in range(1, self.rounds):
            remaining = (~best.success).nonzero()[:, 0]
            if not len(remaining):
                return best
            part, weights = inputs.select(remaining).again("round", k), weight[remaining]
            x = best.x[remaining]
            weights = torch.where(self._outside(x, part.x), self.growth * weights, weights)
            weight = weight.index_copy(0, remaining, weights)
            best = resumed(best, self._round(victim, part, weights, FromImages(x)), remaining)
        remaining = (~best.success).nonzero()[:, 0]
        if len(remaining):  # steps within the bound for the rows not yet broken
            part = inputs.select(remaining).again("within")
            best = resumed(
                best, self._within_bound(victim, part, FromImages(best.x[remaining])), remaining
            )
        return best

    def _outside(self, x: Images, center: Images) -> Mask:
        return ~(self.measured(x, center) <= self.bound)

    def _round(
        self, victim: Victim, inputs: AttackInputs, weight: Rows, start: AbstractStart
    ) -> Solution:
        def problem(logits: LogitsOf) -> Problem:
            objective, context = aimed(logits, self.loss, inputs.y, inputs.targets)
            penalty = Perceptual(self.distance, self.bound)
            return objective + penalty, {**context, "x": inputs.x, "weight": weight}

        return self._solved(victim, inputs, start, Box(), problem)


def perceptual_pgd(
    distance: Distance,
    bound: float,
    *,
    steps: int = 20,
    loss: ValueOfLogits = cross_entropy,
    pace: float = 1.0,
    stop_on_success: bool = False,
) -> WithinPerception:
    """An attack by steepest steps, projected onto a bound of a perceptual distance.

    Maximises the loss subject to distance(x', x) <= `bound` and 0 <= x' <= 1. After each step a
    point outside is moved along the distance's gradient and, if that does not suffice, straight
    towards the image until it is within the bound (`WithinDistance`). Every returned point is
    measured to be within the bound.

    - `distance`: (x', x) -> [n], 0 for equal images, differentiable: `SSIMDistance()`,
      `ColourDistance()`, `lpips(model)` of `notbugs.perception`, or your own, which must
      treat rows separately
    - `bound`: in the units of `distance`
    - `steps`: gradient steps of the model; each costs 2 measurements of the distance, and for a
      point outside up to 4 gradients and 17 measurements more
    - `pace`: length of the first step, as a share of the bound; it decays to a tenth
    - `loss`: (logits, classes) -> [n], high if a row is far from its class
    - `stop_on_success`: a row stops at its first success

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655), PPGD: steps within a perceptual
    distance, and the projections.
    **Differs from the paper**: a step follows the gradient, not the direction of
    least distance for its gain (computed there by conjugate gradients); any
    distance, where theirs is the root of LPIPS; the best visited point is returned; no
    noise at the start.

    **Raises** ValueError for `bound`, `steps` or `pace` that are not above 0.

    >>> from notbugs.engine import L2
    >>> perceptual_pgd(lambda x, y: L2().size(x - y), 0.5, steps=10).name
    'Perceptual-PGD-10'
    """
    name = f"Perceptual-PGD-{steps}"
    return WithinPerception(name, None, distance, bound, steps, loss, pace, stop_on_success)


def perceptual_lagrangian(
    distance: Distance,
    bound: float,
    *,
    steps: int = 20,
    rounds: int = 5,
    loss: ValueOfLogits = margin,
    pace: float = 1.0,
    first_weight: float = 0.01,
    growth: float = 10.0,
    stop_on_success: bool = False,
) -> Lagrangian:
    """An attack on the loss with a penalty on the perceptual distance (Lagrangian).

    In each of `rounds`, by `steps` steepest steps from the last round's best point:

        minimise over x'   -loss(x') + weight * max(0, distance(x', x) - bound),   0 <= x' <= 1

    If a row ends outside the bound, its weight is multiplied by `growth`; a row that has
    succeeded within it is done. The others are finally projected onto the bound, and take
    `steps` steps of `perceptual_pgd` there. Every returned point is measured to be within the
    bound.

    - `distance`, `bound`, `steps`, `loss`, `stop_on_success`: as in `perceptual_pgd`
    - `rounds`: maximum number; `first_weight`: first weight of the penalty; `growth`: its factor
    - `pace`: length of a round's first step, as a share of the bound; it decays to a tenth

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655), LPA, with its rounds,
    weights and lengths of steps.
    **Differs from the paper**: any distance, where theirs is the root of LPIPS; the best
    point of a round is where the next begins; steps after the projection; no noise at the
    start; the margin is not cut off.

    **Raises** ValueError for numbers that are not above 0.

    >>> from notbugs.engine import L2
    >>> perceptual_lagrangian(lambda x, y: L2().size(x - y), 0.5, steps=10, rounds=3).name
    'Lagrangian-perceptual-3x10'
    """
    return Lagrangian(
        f"Lagrangian-perceptual-{rounds}x{steps}",
        None,
        distance,
        bound,
        steps,
        loss,
        pace,
        stop_on_success,
        rounds,
        first_weight,
        growth,
    )
