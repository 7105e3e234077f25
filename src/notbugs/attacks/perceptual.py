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
Posed: TypeAlias = tuple[AbstractObjective, RowTree]
"""What is minimised, and its context."""


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
        """The images no farther than the bound by the distance, in the pixel box."""
        return WithinDistance(self.distance, self.bound)

    def measured(self, x_adv: Images, x: Images) -> Rows:
        """The distance that the bound is about."""
        with torch.no_grad():
            return self.distance(x_adv, x)

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best point within the bound, from the image itself."""
        return self._within_bound(victim, inputs, AtCenter())

    def _within_bound(self, victim: Victim, inputs: AttackInputs, start: AbstractStart) -> Solution:
        def posed(logits: LogitsOf) -> Posed:
            return aimed(logits, self.loss, inputs.y, inputs.targets)

        return self._solved(victim, inputs, start, self.within(), posed)

    def _solved(
        self,
        victim: Victim,
        inputs: AttackInputs,
        start: AbstractStart,
        within: AbstractSet,
        posed: Callable[[LogitsOf], Posed],
    ) -> Solution:
        """The problem that is posed of the victim's logits, and checked by its exact ones."""
        objective, context = posed(victim.logits)
        exact = None if victim.exact is None else posed(victim.exact)[0]
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
        """The best of all rounds; later ones only see the rows not yet broken."""
        weight = torch.full(
            inputs.x.shape[:1], self.first_weight, dtype=inputs.x.dtype, device=inputs.x.device
        )
        best = self._round(victim, inputs, weight, AtCenter())
        for k in range(1, self.rounds):
            left = (~best.success).nonzero()[:, 0]
            if not len(left):
                return best
            again, own = inputs.select(left).again("round", k), weight[left]
            x = best.x[left]
            own = torch.where(self._outside(x, again.x), self.growth * own, own)
            weight = weight.index_copy(0, left, own)
            best = resumed(best, self._round(victim, again, own, FromImages(x)), left)
        left = (~best.success).nonzero()[:, 0]
        if len(left):  # what the penalty has not brought within the bound is projected
            last = inputs.select(left).again("within")
            best = resumed(best, self._within_bound(victim, last, FromImages(best.x[left])), left)
        return best

    def _outside(self, x: Images, center: Images) -> Mask:
        return ~(self.measured(x, center) <= self.bound)

    def _round(
        self, victim: Victim, inputs: AttackInputs, weight: Rows, start: AbstractStart
    ) -> Solution:
        def posed(logits: LogitsOf) -> Posed:
            objective, context = aimed(logits, self.loss, inputs.y, inputs.targets)
            penalty = Perceptual(self.distance, self.bound)
            return objective + penalty, {**context, "x": inputs.x, "weight": weight}

        return self._solved(victim, inputs, start, Box(), posed)


def perceptual_pgd(
    distance: Distance,
    bound: float,
    *,
    steps: int = 20,
    loss: ValueOfLogits = cross_entropy,
    pace: float = 1.0,
    stop_on_success: bool = False,
) -> WithinPerception:
    """An attack that takes steepest steps and is brought back to where an image looks the same.

    Climbs the loss subject to distance(x', x) <= `bound` and 0 <= x' <= 1. After each step a
    point that is too far is led down the distance's slope and, where that does not do, drawn
    straight towards the image until it is within the bound (`WithinDistance`). Every point
    that is returned was measured to be within.

    - `distance`: (x', x) -> [n], 0 for equal images, differentiable: `SSIMDistance()`,
      `ColourDistance()`, `lpips(model)` of `notbugs.perception`, or one of your own, which
      must treat rows apart
    - `bound`: in the units of `distance`
    - `steps`: gradient steps of the model; each costs 2 measurements of the distance, for a
      point outside up to 4 gradients and 17 measurements more
    - `pace`: length of the first step, as a share of the bound; it falls to a tenth of it
    - `loss`: (logits, classes) -> [n], high where a row is far from its class
    - `stop_on_success`: a row stops at its first success

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655), PPGD: steps within a perceptual
    distance, and the projections.
    **Differs from the paper**: a step goes along the gradient, not along the one that
    changes the distance least for its gain (found there by conjugate gradients); any
    distance, where theirs is the root of LPIPS; the best point on the way is returned; no
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
    """An attack that trades the loss against how far an image has come to look different.

    In each of `rounds`, by `steps` steepest steps from where the last one ended:

        minimise over x'   -loss(x') + weight * max(0, distance(x', x) - bound),   0 <= x' <= 1

    A row that ends outside the bound has its weight multiplied by `growth`; one that has
    succeeded within it is done. The others are at last brought within the bound,
    and take `steps` steps of `perceptual_pgd` there. Every point that is
    returned was measured to be within.

    - `distance`, `bound`, `steps`, `loss`, `stop_on_success`: as in `perceptual_pgd`
    - `rounds`: at most; `first_weight`: of the excess, `growth`: what it is multiplied by
    - `pace`: length of a round's first step, as a share of the bound; it falls to a tenth

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
