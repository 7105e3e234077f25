"""Any distance between images as a constraint, as a penalty, and as the unit of a step size.

A distance is a callable, so a `Solver` that contains one cannot be stored as a recipe.
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
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, required
from notbugs.engine.sets import AbstractSet, Box

Distance: TypeAlias = Callable[[Images, Images], Rows]
"""(x [n, ...], center [n, ...]) -> the distance of each row, [n]; 0 for equal images."""

MARGIN = 1e-4
"""Projected points are inside the bound by this share of it, to allow for rounding."""
PROBES, CHANGE = 12, 4.0
"""Measurements before the first step, and the largest factor by which one changes its length."""


@final
@dataclass(frozen=True)
class WithinDistance(AbstractSet):
    """{x : distance(x, center) <= bound and 0 <= x <= 1}; `bound` in the distance's units.

    A point outside is clamped to the box and moved along the distance's gradient by at most
    `corrections` steps of Newton's method for distance = bound. A point that is still outside
    is moved straight towards the centre by bisection, to a precision of 2^-`halvings` of the
    way. The result is measured to be inside; it is not exactly the nearest point. The centre
    must lie in the box. For a distance without gradients only the bisection is used.

    **Source**: Laidlaw, Singla & Feizi 2021 (arXiv 2006.12655): projections by Newton's method
    and by bisection, here one after the other.
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
        x = x.index_copy(0, far, self._newton(x[far], center[far]))
        far = far[self._outside(x[far], center[far], self.bound)]
        return x.index_copy(0, far, self._bisected(x[far], center[far])) if len(far) else x

    def _outside(self, x: Images, center: Images, bound: float) -> Tensor:
        return (~(self.distance(x, center) <= bound)).nonzero()[:, 0]

    def _newton(self, x: Images, center: Images) -> Images:
        """The images after Newton steps along the gradient, towards distance = bound."""
        for _ in range(self.corrections):
            with torch.enable_grad():
                point = x.detach().requires_grad_()
                distance = self.distance(point, center)
                if not distance.requires_grad:
                    return x
                (slope,) = torch.autograd.grad(distance.sum(), point)
            excess = distance.detach() - (1 - 10 * MARGIN) * self.bound
            square = rows.total(slope.square())
            # Without a finite gradient the row is left to the bisection.
            step = torch.where((excess > 0) & (square > 0), excess / square, 0.0).to(x.dtype)
            moved = Box().project(x - rows.expand(step, x) * slope, center)
            x = rows.where(moved.flatten(1).isfinite().all(dim=1), moved, x)
        return x

    def _bisected(self, x: Images, center: Images) -> Images:
        inside, change = center, x - center
        low = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        step = 0.5
        for _ in range(self.halvings):
            candidate = Box().project(center + rows.expand(low + step, x) * change, center)
            feasible = self.distance(candidate, center) <= (1 - MARGIN) * self.bound
            inside = rows.where(feasible, candidate, inside)
            low = torch.where(feasible, low + step, low)
            step /= 2
        return inside

    def sample(self, center: Images, keys: Keys) -> Images:
        return self.project(Box().sample(center, keys), center)

    @torch.no_grad()
    def violation(self, x: Images, center: Images) -> Rows:
        excess = (self.distance(x, center) - self.bound).clamp(min=0)
        return torch.maximum(excess, Box().violation(x, center))


@final
@dataclass(frozen=True)
class Perceptual(AbstractObjective):
    """weight * max(0, distance(x, x_0) - bound) of each row: a penalty to add to an objective.

    Context: `x` [n, ...], the images x_0; `weight` [n] where rows have their own, else 1.
    With a bound a row succeeds within it, so that a sum succeeds if its goal is reached
    within the bound. With None the value is the distance and there is no success.
    """

    distance: Distance
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.bound is not None and not (0 <= self.bound < float("inf")):
            raise bad_value("bound", "be a finite number of at least 0, or None", self.bound)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        if context is None or "x" not in context:
            raise KeyError("This objective needs the per-row tensor 'x' in its context.")
        distance = self.distance(x, context["x"])
        success = None if self.bound is None else distance.detach() <= self.bound
        excess = distance if self.bound is None else (distance - self.bound).clamp(min=0)
        return Evaluation(context["weight"] * excess if "weight" in context else excess, success)


@final
@dataclass(frozen=True)
class Paced(AbstractStepRule[Rows]):
    """Steepest steps in `norm`, with step sizes in the units of `distance`.

    A step goes down the gradient by `length` * `last`^(t / T), measured by the distance from
    its start. Each row has a step size in pixel units, which is adapted before each step by
    one measurement: it is multiplied by the root of the wanted length over the measured one
    (exact for distances that grow with the square of a change; it converges for those that
    are linear in it).

    - `length`: of the first step, in the distance's units; `last`: the last one's share of it

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
        size = torch.full((len(theta),), 0.1, dtype=theta.dtype, device=theta.device)
        direction = -self.norm.steepest(required(info.grad))
        for _ in range(PROBES):
            size = self._adapted(theta, direction, size, self.length)
        return size

    def step(self, theta: Theta, info: StepInfo, state: Rows) -> tuple[Tensor, Rows]:
        direction = -self.norm.steepest(required(info.grad))
        wanted = self.length * self.last ** (info.step / info.max_steps)
        size = self._adapted(theta, direction, state, wanted)
        return theta + rows.expand(size, theta) * direction, size

    @torch.no_grad()
    def _adapted(self, theta: Theta, direction: Tensor, size: Rows, wanted: float) -> Rows:
        candidate = (theta + rows.expand(size, theta) * direction).clamp(0, 1)
        measured = self.distance(candidate, theta).to(size)
        # A measured length of 0 (no gradient, or clamped by the box) makes the size grow.
        factor = (wanted / measured.clamp(min=1e-12)).sqrt().clamp(1 / CHANGE, CHANGE)
        widest = theta[0].numel() ** 0.5
        return (size * factor).clamp(1e-6, widest)
