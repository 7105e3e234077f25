"""Any distance between images as a set, as a penalty, and as the measure of a step.

A distance is a callable, so what is here is made where a solve begins: a `Solver` that holds
one is no longer a recipe to store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Keys, Rows, RowTree, Theta
from notbugs.engine.norms import AbstractNorm, check_norm
from notbugs.engine.objective import AbstractObjective, Draw, Evaluation
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, given
from notbugs.engine.sets import AbstractSet, Box

Distance: TypeAlias = Callable[[Images, Images], Rows]
"""(x [n, ...], center [n, ...]) -> the distance of each row, [n]; 0 for equal images."""

MARGIN = 1e-4
"""A projected point is nearer than the bound by this share of it: more than a batch's rounding."""
PROBES, CHANGE = 12, 4.0
"""Probes before the first step, and the most by which one of them changes the step's length."""


@final
@dataclass(frozen=True)
class WithinDistance(AbstractSet):
    """{x : distance(x, center) <= bound and 0 <= x <= 1}; `bound` in the distance's units.

    A point outside is clamped to the box and led down the distance's slope, by at most
    `corrections` steps of Newton's method for distance = bound: often near the nearest point
    of the set. What is still outside is drawn straight towards the centre until it is within, by
    bisection to 2^-`halvings` of the way. What is returned was measured to be within; it is
    not exactly the nearest point, which would ask for an optimisation of its own. The centre
    must lie in the box. A distance without gradients gets by on the bisection.

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655): projections by Newton's method
    and by bisection, here the one after the other.
    """

    distance: Distance
    bound: float
    corrections: int = 4
    halvings: int = 16

    def __post_init__(self) -> None:
        check_positive(self.bound, "bound")
        check_count(self.corrections, "corrections", 0)
        check_count(self.halvings, "halvings")

    @torch.no_grad()
    def project(self, x: Images, center: Images) -> Images:
        x = Box().project(x, center)
        far = self._outside(x, center, self.bound)
        if not len(far):
            return x
        x = x.index_copy(0, far, self._corrected(x[far], center[far]))
        far = far[self._outside(x[far], center[far], self.bound)]
        return x.index_copy(0, far, self._drawn_in(x[far], center[far])) if len(far) else x

    def _outside(self, x: Images, center: Images, bound: float) -> Tensor:
        return (~(self.distance(x, center) <= bound)).nonzero()[:, 0]

    def _corrected(self, x: Images, center: Images) -> Images:
        """Steps down the slope, each as far as the bound seems to lie."""
        for _ in range(self.corrections):
            with torch.enable_grad():
                at = x.detach().requires_grad_()
                apart = self.distance(at, center)
                if not apart.requires_grad:
                    return x
                (slope,) = torch.autograd.grad(apart.sum(), at)
            over = apart.detach() - (1 - 10 * MARGIN) * self.bound
            steepness = rows.total(slope.square())
            # No slope, or none that is a number: the row stays, and is drawn in.
            step = torch.where((over > 0) & (steepness > 0), over / steepness, 0.0).to(x.dtype)
            moved = Box().project(x - rows.expand(step, x) * slope, center)
            x = rows.where(moved.flatten(1).isfinite().all(dim=1), moved, x)
        return x

    def _drawn_in(self, x: Images, center: Images) -> Images:
        inside, change = center, x - center
        low = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        step = 0.5
        for _ in range(self.halvings):
            tried = Box().project(center + rows.expand(low + step, x) * change, center)
            fits = self.distance(tried, center) <= (1 - MARGIN) * self.bound
            inside = rows.where(fits, tried, inside)
            low = torch.where(fits, low + step, low)
            step /= 2
        return inside

    def sample(self, center: Images, keys: Keys) -> Images:
        return self.project(Box().sample(center, keys), center)

    @torch.no_grad()
    def violation(self, x: Images, center: Images) -> Rows:
        over = (self.distance(x, center) - self.bound).clamp(min=0)
        return torch.maximum(over, Box().violation(x, center))


@final
@dataclass(frozen=True)
class Perceptual(AbstractObjective):
    """weight * max(0, distance(x, x_0) - bound) of each row: a penalty to add to an objective.

    Context: `x` [n, ...], the images x_0; `weight` [n] where rows have their own, else 1.
    With a bound a row succeeds within it, so that a sum succeeds where its goal is reached
    within the bound; without one (None) the value is the distance and nothing is a success.
    """

    distance: Distance
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.bound is not None and not (0 <= self.bound < float("inf")):
            raise bad_value("bound", "be a finite number of at least 0, or None", self.bound)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        if context is None or "x" not in context:
            raise KeyError("This objective needs the per-row tensor 'x' in its context.")
        apart = self.distance(x, context["x"])
        success = None if self.bound is None else apart.detach() <= self.bound
        over = apart if self.bound is None else (apart - self.bound).clamp(min=0)
        return Evaluation(context["weight"] * over if "weight" in context else over, success)


@final
@dataclass(frozen=True)
class Paced(AbstractStepRule[Rows]):
    """Steepest steps in `norm`, as long as the distance says.

    A step goes down the gradient by `length` * `last`^(t / T), measured by the distance from
    where it begins. Its length in pixels is kept for each row, and mended before each step
    by one measurement: times the root of the wanted length over the measured one (exact for
    distances that grow with the square of a change, soon right for those that grow with the
    change itself).

    - `length`: of the first step, in the distance's units; `last`: the share of it at the end

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655), the LPA attack: lengths by a
    finite difference, and their decay (`last` = 0.1).
    """

    norm: AbstractNorm
    distance: Distance
    length: float
    last: float = 0.1

    needs: ClassVar[Needs] = Needs(success=False)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_positive(self.length, "length")
        check_positive(self.last, "last")

    def init(self, theta: Theta, info: StepInfo) -> Rows:
        pixels = torch.full((len(theta),), 0.1, dtype=theta.dtype, device=theta.device)
        way = -self.norm.steepest(given(info.grad))
        for _ in range(PROBES):
            pixels = self._mended(theta, way, pixels, self.length)
        return pixels

    def step(self, theta: Theta, info: StepInfo, state: Rows) -> tuple[Tensor, Rows]:
        way = -self.norm.steepest(given(info.grad))
        wanted = self.length * self.last ** (info.step / info.max_steps)
        pixels = self._mended(theta, way, state, wanted)
        return theta + rows.expand(pixels, theta) * way, pixels

    @torch.no_grad()
    def _mended(self, theta: Theta, way: Tensor, pixels: Rows, wanted: float) -> Rows:
        there = (theta + rows.expand(pixels, theta) * way).clamp(0, 1)
        measured = self.distance(there, theta).to(pixels)
        # Where nothing was measured (no gradient, or against the edge of the box) it grows.
        factor = (wanted / measured.clamp(min=1e-12)).sqrt().clamp(1 / CHANGE, CHANGE)
        widest = theta[0].numel() ** 0.5
        return (pixels * factor).clamp(1e-6, widest)
