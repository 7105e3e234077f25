"""HopSkipJump: an attack that uses only the model's decisions."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.decisions import BLOCK, Oracle, random_directions, stepped
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.losses import margin
from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count, check_images
from notbugs.core.types import Images, Keys, Mask, Rows
from notbugs.engine import L2, AbstractNorm, AbstractSize, Linf, Solution
from notbugs.models.decision import classified_as, misclassified


@dataclass(frozen=True, eq=False)
class HopSkipJump(AbstractAttack):
    """The settings of `hop_skip_jump`; `images` [m, ...] are candidate first points."""

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
        """The nearest point visited; a row without a misclassified first point keeps its image."""
        goal = inputs.y if inputs.targets is None else inputs.targets
        if goal is None:
            raise bad_value("y", "be given without `targets`", None)
        oracle = Oracle(victim.true_logits, inputs.targets is not None)
        done = oracle(inputs.x, goal)
        first, started = self._first(oracle, inputs.x, goal, inputs.keys, done)
        remaining = (started & ~done).nonzero()[:, 0]
        x = inputs.x
        if len(remaining):
            nearest = self._search(
                oracle, x[remaining], first[remaining], goal[remaining], inputs.keys[remaining]
            )
            x = x.index_copy(0, remaining, nearest)
        steps = torch.zeros_like(inputs.keys).index_fill(0, remaining, self.steps)
        return _solution(oracle, x, goal, steps)

    def _first(
        self, oracle: Oracle, x: Images, goal: Tensor, keys: Keys, done: Mask
    ) -> tuple[Images, Mask]:
        """(a point that has reached the goal for each row, whether there is one)."""
        first, started = x, done
        if self.images is not None:
            images = self.images.to(x)
            usable = (oracle.classes(images) == goal[:, None]) == oracle.targeted
            distance = torch.cdist(
                rows.flatten(x),
                rows.flatten(images),
                p=math.inf if isinstance(self.norm, Linf) else 2.0,
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            nearest = torch.where(usable, distance, math.inf).argmin(dim=1)
            first = rows.where(started | ~usable.any(dim=1), first, images[nearest])
            started = started | usable.any(dim=1)
        for attempt in range(self.tries):
            remaining = (~started).nonzero()[:, 0]
            if not len(remaining):
                break
            noise = random.uniform(
                random.fold(keys[remaining], "noise", attempt), x.shape[1:], x.dtype
            )
            adversarial = oracle(noise, goal[remaining])
            first = first.index_copy(0, remaining[adversarial], noise[adversarial])
            started = started.index_fill(0, remaining[adversarial], True)
        return first, started

    def _search(self, oracle: Oracle, x: Images, first: Images, goal: Tensor, keys: Keys) -> Images:
        current = best = self._to_boundary(oracle, x, first, goal)
        for step in range(self.steps):
            distance = self.norm.size(current - x)
            uphill = self._direction(oracle, current, distance, goal, random.fold(keys, step), step)
            candidate = stepped(oracle, current, uphill, distance / math.sqrt(step + 1), goal)
            current = self._to_boundary(oracle, x, candidate, goal)
            nearer = self.norm.size(current - x) < self.norm.size(best - x)
            best = rows.where(nearer, current, best)
        return best

    def _to_boundary(self, oracle: Oracle, x: Images, adversarial: Images, goal: Tensor) -> Images:
        """The adversarial point near the boundary between `adversarial` and `x`, by bisection."""
        low, high = torch.zeros(len(x)).to(x), torch.ones(len(x)).to(x)
        power = 2.0 if isinstance(self.norm, Linf) else 1.5
        for _ in range(math.ceil(power * math.log2(x[0].numel())) + 1):
            middle = (low + high) / 2
            success = oracle(self._between(x, adversarial, middle), goal)
            low, high = torch.where(success, low, middle), torch.where(success, middle, high)
        return rows.where(high < 1, self._between(x, adversarial, high), adversarial)

    def _between(self, x: Images, adversarial: Images, share: Rows) -> Images:
        if isinstance(self.norm, Linf):
            return x + self.norm.project(adversarial - x, share * self.norm.size(adversarial - x))
        return torch.lerp(x, adversarial, rows.expand(share, x))

    def _count(self, step: int) -> int:
        return min(int(self.draws * math.sqrt(step + 1)), self.most_draws)

    def _direction(
        self, oracle: Oracle, x: Images, distance: Rows, goal: Tensor, keys: Keys, step: int
    ) -> Images:
        """The steepest direction towards adversarial points, from decisions at random points."""
        shape, count = x.shape[1:], self._count(step)
        radius = rows.expand(
            torch.full_like(distance, 0.1) if step == 0 else distance / x[0].numel(), x
        )
        radius = radius.clamp(min=1e-6)[:, None]
        signed = total = torch.zeros_like(x)
        signs = torch.zeros_like(distance)
        for start in range(0, count, BLOCK):
            block = min(BLOCK, count - start)
            directions = random_directions(
                random.fold(keys, "draw", start), (block, *shape), self.norm
            ).to(x)
            points = (x[:, None] + radius * directions).clamp(0, 1)
            adversarial = oracle(points.flatten(0, 1), goal.repeat_interleave(block)).reshape(
                len(x), block
            )
            sign, moved = torch.where(adversarial, 1.0, -1.0).to(x), (points - x[:, None]) / radius
            signed = signed + (moved * sign.reshape(*sign.shape, *[1] * len(shape))).sum(dim=1)
            total, signs = total + moved.sum(dim=1), signs + sign.sum(dim=1)
        mean = signs / count
        # If all decisions agree, without the baseline, which would cancel everything.
        mean = torch.where(mean.abs() == 1, 0.0, mean)
        return self.norm.steepest(signed - rows.expand(mean, x) * total)


def _solution(oracle: Oracle, x: Images, goal: Tensor, steps: Tensor) -> Solution:
    """The points found, with the margin as their value: below 0 if the goal is reached."""
    logits = oracle.logits(x)
    value = margin(logits, goal)
    return Solution(
        x=x,
        value=value if oracle.targeted else -value,
        success=classified_as(logits, goal) if oracle.targeted else misclassified(logits, goal),
        gave_up=torch.zeros_like(steps, dtype=torch.bool),
        steps=steps,
        zero_grads=torch.zeros_like(steps),
        forwards=oracle.forwards + len(x),
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
    """A minimum-norm attack that uses only the predicted class (decision-based).

    Approximates: minimise norm(x' - x) subject to x' misclassified and 0 <= x' <= 1. Each
    step estimates the gradient direction from `draws` decisions around a point on the
    boundary, takes a step along it, and returns to the boundary by binary search.

    - `norm`: L2() or Linf()
    - `steps`: estimates of the direction; step t costs draws * sqrt(t) queries of a row
      (at most `most_draws`), and about 20 for the step and the binary search
    - `tries`: noise images queried to find a first misclassified point of a row
    - `images` [m, c, h, w] in [0, 1]: a row starts at the nearest of them that the model
      puts in another class (in the target class with `targets`); the other rows at noise

    Pass `images` to a targeted attack: noise is rarely classified as the target. Queries are
    counted in the result's `forwards`.

    **Source**: Chen et al. 2019 (arXiv 1904.02144), Algorithms 1 and 2.
    **Differs from the paper**: the radius of the draws follows the distance of the
    boundary point, not of the point before its search; the nearest visited point is
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
