"""HopSkipJump: an attack that only asks for the model's decision."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.decisions import BLOCK, Oracle, drawn, jumped
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.losses import margin
from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count, check_images
from notbugs.core.types import Images, Keys, Mask, Rows
from notbugs.engine import L2, AbstractNorm, AbstractSize, Linf, Solution
from notbugs.models.decision import classified_as, misclassified


@dataclass(frozen=True, eq=False)
class HopSkipJump(AbstractAttack):
    """The settings of `hop_skip_jump`; `images` [m, ...] are points to start from."""

    norm: AbstractNorm
    steps: int
    draws: int
    most_draws: int
    tries: int
    images: Images | None = field(default=None, repr=False)

    @property
    def requirements(self) -> Requirements:
        return Requirements(gradients=False, low_precision=False, observable=False)

    @property
    def size(self) -> AbstractSize:
        return self.norm

    @property
    def passes(self) -> int:
        return sum(self._count(step) for step in range(self.steps))

    @torch.no_grad()
    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest point of the walk; a row without a first point keeps its image."""
        goal = inputs.y if inputs.targets is None else inputs.targets
        if goal is None:
            raise bad_value("y", "be given without `targets`", None)
        ask = Oracle(victim.true_logits, inputs.targets is not None)
        done = ask(inputs.x, goal)
        first, begun = self._first(ask, inputs.x, goal, inputs.keys, done)
        left = (begun & ~done).nonzero()[:, 0]
        x = inputs.x
        if len(left):
            walked = self._walk(ask, x[left], first[left], goal[left], inputs.keys[left])
            x = x.index_copy(0, left, walked)
        steps = torch.zeros_like(inputs.keys).index_fill(0, left, self.steps)
        return _solution(ask, x, goal, steps)

    def _first(
        self, ask: Oracle, x: Images, goal: Tensor, keys: Keys, done: Mask
    ) -> tuple[Images, Mask]:
        """(a point that has reached the goal for each row, whether there is one)."""
        first, begun = x, done
        if self.images is not None:
            given = self.images.to(x)
            fits = (ask.classes(given) == goal[:, None]) == ask.targeted
            apart = torch.cdist(
                rows.flatten(x),
                rows.flatten(given),
                p=math.inf if isinstance(self.norm, Linf) else 2.0,
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            nearest = torch.where(fits, apart, math.inf).argmin(dim=1)
            first = rows.where(begun | ~fits.any(dim=1), first, given[nearest])
            begun = begun | fits.any(dim=1)
        for attempt in range(self.tries):
            left = (~begun).nonzero()[:, 0]
            if not len(left):
                break
            noise = random.uniform(random.fold(keys[left], "noise", attempt), x.shape[1:], x.dtype)
            hit = ask(noise, goal[left])
            first = first.index_copy(0, left[hit], noise[hit])
            begun = begun.index_fill(0, left[hit], True)
        return first, begun

    def _walk(self, ask: Oracle, x: Images, first: Images, goal: Tensor, keys: Keys) -> Images:
        at = best = self._to_boundary(ask, x, first, goal)
        for step in range(self.steps):
            apart = self.norm.size(at - x)
            uphill = self._direction(ask, at, apart, goal, random.fold(keys, step), step)
            ahead = jumped(ask, at, uphill, apart / math.sqrt(step + 1), goal)
            at = self._to_boundary(ask, x, ahead, goal)
            nearer = self.norm.size(at - x) < self.norm.size(best - x)
            best = rows.where(nearer, at, best)
        return best

    def _to_boundary(self, ask: Oracle, x: Images, adversarial: Images, goal: Tensor) -> Images:
        """The point next to the boundary on the way from `adversarial` to `x`, by halving."""
        low, high = torch.zeros(len(x)).to(x), torch.ones(len(x)).to(x)
        power = 2.0 if isinstance(self.norm, Linf) else 1.5
        for _ in range(math.ceil(power * math.log2(x[0].numel())) + 1):
            middle = (low + high) / 2
            hit = ask(self._between(x, adversarial, middle), goal)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        return rows.where(high < 1, self._between(x, adversarial, high), adversarial)

    def _between(self, x: Images, adversarial: Images, share: Rows) -> Images:
        if isinstance(self.norm, Linf):
            return x + self.norm.project(adversarial - x, share * self.norm.size(adversarial - x))
        return torch.lerp(x, adversarial, rows.expand(share, x))

    def _count(self, step: int) -> int:
        return min(int(self.draws * math.sqrt(step + 1)), self.most_draws)

    def _direction(
        self, ask: Oracle, at: Images, apart: Rows, goal: Tensor, keys: Keys, step: int
    ) -> Images:
        """The steepest direction away from the decision, from decisions at random points."""
        shape, count = at.shape[1:], self._count(step)
        reach = rows.expand(torch.full_like(apart, 0.1) if step == 0 else apart / at[0].numel(), at)
        reach = reach.clamp(min=1e-6)[:, None]
        signed = total = torch.zeros_like(at)
        signs = torch.zeros_like(apart)
        for begin in range(0, count, BLOCK):
            few = min(BLOCK, count - begin)
            ways = drawn(random.fold(keys, "draw", begin), (few, *shape), self.norm).to(at)
            points = (at[:, None] + reach * ways).clamp(0, 1)
            hit = ask(points.flatten(0, 1), goal.repeat_interleave(few)).reshape(len(at), few)
            sign, moved = torch.where(hit, 1.0, -1.0).to(at), (points - at[:, None]) / reach
            signed = signed + (moved * sign.reshape(*sign.shape, *[1] * len(shape))).sum(dim=1)
            total, signs = total + moved.sum(dim=1), signs + sign.sum(dim=1)
        mean = signs / count
        # Where all decisions agree, their own mean: the baseline would leave nothing.
        mean = torch.where(mean.abs() == 1, 0.0, mean)
        return self.norm.steepest(signed - rows.expand(mean, at) * total)


def _solution(ask: Oracle, x: Images, goal: Tensor, steps: Tensor) -> Solution:
    """The points found, with the margin as their value: below 0 where the goal is reached."""
    logits = ask.logits(x)
    value = margin(logits, goal)
    return Solution(
        x=x,
        value=value if ask.targeted else -value,
        success=classified_as(logits, goal) if ask.targeted else misclassified(logits, goal),
        gave_up=torch.zeros_like(steps, dtype=torch.bool),
        steps=steps,
        zero_grads=torch.zeros_like(steps),
        forwards=ask.forwards + len(x),
        backwards=0,
    )


@takes_norm
def hop_skip_jump(
    norm: AbstractNorm,
    *,
    steps: int = 64,
    draws: int = 100,
    most_draws: int = 10_000,
    tries: int = 100,
    images: Images | None = None,
) -> HopSkipJump:
    """A minimum-norm attack that sees only which class the model decides for.

    Approximates: minimise norm(x' - x) subject to x' misclassified and 0 <= x' <= 1. Each
    step estimates the direction away from the decision from `draws` decisions around a
    point on the boundary, jumps along it, and halves its way back to the boundary.

    - `norm`: L2() or Linf()
    - `steps`: estimates of the direction; step t costs draws * sqrt(t) queries of a row
      (at most `most_draws`), and about 20 for the jump and the way back
    - `tries`: noise images asked about to find a first misclassified point of a row
    - `images` [m, c, h, w] in [0, 1]: a row starts at the nearest of them that the model
      puts in another class (in the wanted class with `targets`); noise serves the rest

    A targeted attack should be given `images`: noise hardly ever has the wanted class.
    Queries are counted in the result's `forwards`.

    **Source**: Chen et al. 2019 (arXiv 1904.02144), Algorithms 1 and 2.
    **Differs from the paper**: the radius of the draws follows the distance of the
    boundary point, not of the point before its search; the nearest point on the way is
    returned, not the last; a start from images takes the nearest.

    **Raises** ValueError for another norm, for counts below 1 (`tries`: 0) and for
    `images` outside [0, 1].

    >>> hop_skip_jump(L2(), steps=10).name
    'HopSkipJump-10'
    """
    if not isinstance(norm, L2 | Linf):
        raise bad_value("norm", "be L2() or Linf()", repr(norm), "For L1, use square or fab.")
    check_count(steps, "steps")
    check_count(draws, "draws")
    check_count(most_draws, "most_draws")
    check_count(tries, "tries", 0 if images is not None else 1)
    if images is not None:
        check_images(images, "images")
    return HopSkipJump(f"HopSkipJump-{steps}", None, norm, steps, draws, most_draws, tries, images)
