"""L-BFGS: steps along a quasi-Newton direction, each row with its own curvature estimate."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import check_count, check_positive
from notbugs.core.types import Mask, Rows, Theta
from notbugs.engine.norms import L2, Linf
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, required

FORGET = 6
"""Consecutive halvings of the step after which the curvature pairs are dropped."""


class LBFGSState(NamedTuple):
    """The best point of each row, its gradient and value, and the curvature pairs."""

    best: Theta
    grad: Theta
    value: Rows
    scale: Rows
    moves: Float[Tensor, "n m *theta"]
    """[n, memory, ...]: the paper's s, changes of the variables, newest last."""
    grad_changes: Float[Tensor, "n m *theta"]
    """[n, memory, ...]: the paper's y, the changes of the gradient."""
    weights: Float[Tensor, "n m"]
    """[n, memory]: the paper's rho, 1 / <move, grad change>; 0 if there is no pair."""


@final
@dataclass(frozen=True)
class LBFGS(AbstractStepRule[LBFGSState]):
    """theta - scale * H g from the best point so far, H from its last `memory` moves.

    H is the limited-memory BFGS estimate of the inverse Hessian, for each row separately. A
    point worse than the best is discarded and halves the row's `scale`; a better one doubles
    it, up to 1. So there is no line search, and T steps cost T gradients. Variables at an
    active bound of the set (a projected gradient step does not move them) are left out.

    - `memory`: number of moves; each stores two images per row
    - `distances`: the objective is a distance, which can reach 0 but has no curvature
      there: half its square is minimised, and the first step is the one that would reach 0
      if the distance were linear
    - `curvature`: otherwise, that of a part of the objective, e.g. 2 of a squared distance: the
      first step is the gradient divided by it
    - `first`: otherwise, the L2 length of the first step (pixel units of [0, 1])

    **Raises** ValueError for a memory below 1, a curvature and a first step that are not positive.
    **Source**: Liu & Nocedal 1989 ("On the limited memory BFGS method"), Algorithm 2.1;
    the first step with `distances` is Polyak's (1969).
    **Differs from the paper**: no line search, see above; bounds as described.
    """

    memory: int = 10
    distances: bool = False
    first: float = 0.1
    curvature: float | None = None

    needs: ClassVar[Needs] = Needs(success=False, same_values=True)

    def __post_init__(self) -> None:
        check_count(self.memory, "memory")
        check_positive(self.first, "first")
        if self.curvature is not None:
            check_positive(self.curvature, "curvature")

    def init(self, theta: Theta, info: StepInfo) -> LBFGSState:
        zero = torch.zeros_like(theta)
        none = zero[:, None].repeat(1, self.memory, *([1] * (theta.ndim - 1)))
        one = torch.ones_like(info.value)
        return LBFGSState(zero, zero, one * torch.inf, one, none, none, none.flatten(2).sum(dim=2))

    def step(self, theta: Theta, info: StepInfo, state: LBFGSState) -> tuple[Tensor, LBFGSState]:
        grad = required(info.grad)
        if self.distances:
            grad = grad * rows.expand(info.value, grad)
        if info.step > 0:
            state = _with_move(state, theta - state.best, grad - state.grad)
        state = _with_best(state, theta, grad, info.value)
        free = _free(state, info)
        slope = state.grad * free
        step = self._direction(state, slope, free)
        uphill = ~(rows.total(step * slope) > 0)
        step = rows.where(uphill, self._gradient_step(state, slope), step)
        return state.best - rows.expand(state.scale, step) * step, state

    def _gradient_step(self, state: LBFGSState, slope: Tensor) -> Tensor:
        """The step down the gradient."""
        if self.curvature is not None and not self.distances:
            return slope / self.curvature
        if not self.distances:
            return self.first * L2().steepest(slope)
        return slope * rows.expand(_share(state.value.square(), rows.total(slope * slope)), slope)

    def _direction(self, state: LBFGSState, slope: Tensor, free: Tensor) -> Tensor:
        """H slope by the paper's two-loop recursion, over the free variables."""
        step, alphas = slope, list[Rows]()
        for i in reversed(range(self.memory)):
            alphas.append(state.weights[:, i] * rows.total(state.moves[:, i] * step))
            step = step - rows.expand(alphas[-1], step) * state.grad_changes[:, i] * free
        grad_change, weight = state.grad_changes[:, -1] * free, state.weights[:, -1]
        size = _share(torch.ones_like(weight), weight * rows.total(grad_change * grad_change))
        # Without pairs the direction is 0, and the plain gradient step is taken.
        step = step * rows.expand(torch.where(weight > 0, size, 0), step)
        for i in range(self.memory):
            beta = state.weights[:, i] * rows.total(state.grad_changes[:, i] * step)
            step = step + rows.expand(alphas.pop() - beta, step) * state.moves[:, i] * free
        return step


def _with_move(state: LBFGSState, move: Tensor, grad_change: Tensor) -> LBFGSState:
    """The memory with a move from the best point added, if the curvature along it is positive."""
    curvature = rows.total(move * grad_change)
    least = 1e-8 * L2().size(move) * L2().size(grad_change)
    weight = _share(curvature * 0 + 1, curvature)
    useful = (curvature > least) & curvature.isfinite()
    new = state._replace(
        moves=torch.cat([state.moves[:, 1:], move[:, None]], dim=1),
        grad_changes=torch.cat([state.grad_changes[:, 1:], grad_change[:, None]], dim=1),
        weights=torch.cat([state.weights[:, 1:], weight[:, None]], dim=1),
    )
    return rows.merge(useful, new, state)


def _with_best(state: LBFGSState, theta: Theta, grad: Tensor, value: Rows) -> LBFGSState:
    """The state after a new point: the best point, and the updated scale."""
    better: Mask = value < state.value
    scale = torch.where(better, (2 * state.scale).clamp(max=1), state.scale / 2)
    return state._replace(
        best=rows.where(better, theta, state.best),
        grad=rows.where(better, grad, state.grad),
        value=torch.where(better, value, state.value),
        scale=scale,
        weights=rows.where(scale > 0.5**FORGET, state.weights, 0 * state.weights),
    )


def _free(state: LBFGSState, info: StepInfo) -> Tensor:
    """1 for each variable that a projected gradient step moves, else 0."""
    largest = Linf().size(state.grad).to(state.grad.dtype)
    down = state.grad * rows.expand(_share(torch.ones_like(largest), largest), state.grad)
    return (info.project(state.best - down) != state.best).to(state.grad.dtype)


def _share(part: Rows, whole: Rows) -> Rows:
    """part / whole, or 0 if the whole is not above 0."""
    tiny = torch.finfo(whole.dtype).tiny
    return torch.where(whole > tiny, part / whole.clamp(min=tiny), 0)
