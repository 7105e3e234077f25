"""Steps that learn the curvature of each row on the way."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import check_count, check_positive
from notbugs.core.types import Mask, Rows, Theta
from notbugs.engine.norms import L2, Linf
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo, given

FORGET = 6
"""Halvings of a step in a row after which the curvature learnt is forgotten."""


class LBFGSState(NamedTuple):
    """The best point of each row, its gradient and value; moves and what they taught."""

    best: Theta
    grad: Theta
    value: Rows
    scale: Rows
    moves: Float[Tensor, "n m *theta"]
    """[n, memory, ...]: changes of the variables, newest last."""
    turns: Float[Tensor, "n m *theta"]
    """[n, memory, ...]: the changes of the gradient that came of them."""
    weights: Float[Tensor, "n m"]
    """[n, memory]: 1 / <move, turn>, and 0 where there is none."""


@final
@dataclass(frozen=True)
class LBFGS(AbstractStepRule[LBFGSState]):
    """theta - scale * H g from the best point so far, H from its last `memory` moves.

    H is the limited-memory BFGS estimate of the inverse Hessian, each row its own. A point
    that is worse than the best halves the row's `scale` and is left; a better one doubles it,
    up to 1. So there is no line search, and T steps are T gradients as ever. Variables that
    the set holds (the step back into it gives the same number) take no part in a step.

    - `memory`: how many moves; each holds two images a row
    - `distances`: the objective is a distance, which can reach 0 but has no curvature
      there: half its square is minimised, and the first step is the one that would reach 0
      if the distance fell as its slope says
    - `first`: else, the L2 length of the first step (pixel units of [0, 1])

    **Raises** ValueError for a memory below 1 and a first step that is not positive.
    **Source**: Liu & Nocedal 1989 ("On the limited memory BFGS method"), Algorithm 2.1;
    the first step with `distances` is Polyak's (1969).
    **Differs from the paper**: no line search, see above; bounds as described.
    """

    memory: int = 10
    distances: bool = False
    first: float = 0.1

    needs: ClassVar[Needs] = Needs(success=False, same_values=True)

    def __post_init__(self) -> None:
        check_count(self.memory, "memory")
        check_positive(self.first, "first")

    def init(self, theta: Theta, info: StepInfo) -> LBFGSState:
        zero = torch.zeros_like(theta)
        none = zero[:, None].repeat(1, self.memory, *([1] * (theta.ndim - 1)))
        one = torch.ones_like(info.value)
        return LBFGSState(zero, zero, one * torch.inf, one, none, none, none.flatten(2).sum(dim=2))

    def step(self, theta: Theta, info: StepInfo, state: LBFGSState) -> tuple[Tensor, LBFGSState]:
        grad = given(info.grad)
        if self.distances:
            grad = grad * rows.expand(info.value, grad)
        if info.step > 0:
            state = _learnt(state, theta - state.best, grad - state.grad)
        state = _judged(state, theta, grad, info.value)
        free = _free(state, info)
        slope = state.grad * free
        step = self._direction(state, slope, free)
        uphill = ~(rows.total(step * slope) > 0)
        step = rows.where(uphill, self._plain(state, slope), step)
        return state.best - rows.expand(state.scale, step) * step, state

    def _plain(self, state: LBFGSState, slope: Tensor) -> Tensor:
        """The step down the gradient."""
        if not self.distances:
            return self.first * L2().steepest(slope)
        return slope * rows.expand(_share(state.value.square(), rows.total(slope * slope)), slope)

    def _direction(self, state: LBFGSState, slope: Tensor, free: Tensor) -> Tensor:
        """H slope, by the two loops of the paper; among the free variables."""
        step, along = slope, list[Rows]()
        for i in reversed(range(self.memory)):
            along.append(state.weights[:, i] * rows.total(state.moves[:, i] * step))
            step = step - rows.expand(along[-1], step) * state.turns[:, i] * free
        turn, weight = state.turns[:, -1] * free, state.weights[:, -1]
        size = _share(torch.ones_like(weight), weight * rows.total(turn * turn))
        # Nothing learnt: 0, which no step goes along, so that the plain one is taken.
        step = step * rows.expand(torch.where(weight > 0, size, 0), step)
        for i in range(self.memory):
            back = state.weights[:, i] * rows.total(state.turns[:, i] * step)
            step = step + rows.expand(along.pop() - back, step) * state.moves[:, i] * free
        return step


def _learnt(state: LBFGSState, move: Tensor, turn: Tensor) -> LBFGSState:
    """The memory with a move from the best point, where it curves upwards."""
    bend = rows.total(move * turn)
    least = 1e-8 * L2().size(move) * L2().size(turn)
    useful = (bend > least) & bend.isfinite()
    new = state._replace(
        moves=torch.cat([state.moves[:, 1:], move[:, None]], dim=1),
        turns=torch.cat([state.turns[:, 1:], turn[:, None]], dim=1),
        weights=torch.cat([state.weights[:, 1:], _share(bend * 0 + 1, bend)[:, None]], dim=1),
    )
    return rows.merge(useful, new, state)


def _judged(state: LBFGSState, theta: Theta, grad: Tensor, value: Rows) -> LBFGSState:
    """The best point after a look at a new one, and the scale that follows."""
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
    """1 for each variable that a step down the gradient moves, also after the projection."""
    largest = Linf().size(state.grad).to(state.grad.dtype)
    down = state.grad * rows.expand(_share(torch.ones_like(largest), largest), state.grad)
    return (info.project(state.best - down) != state.best).to(state.grad.dtype)


def _share(part: Rows, whole: Rows) -> Rows:
    """part / whole, and 0 where the whole is not above 0."""
    tiny = torch.finfo(whole.dtype).tiny
    return torch.where(whole > tiny, part / whole.clamp(min=tiny), 0)
