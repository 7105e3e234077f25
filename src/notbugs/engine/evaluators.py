"""How the value of a point and its derivatives are got, and what that costs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.types import Images, Keys, Mask, Rows, Theta
from notbugs.engine.keep import AbstractKeep, Kept
from notbugs.engine.objective import AbstractObjective, Derivative, Draw, Evaluation, OfOutputs
from notbugs.engine.rules import Needs
from notbugs.engine.state import State


class Point(NamedTuple):
    """What an evaluation of the rows at work gives, one entry a row.

    `value` is what the rule follows and `score` the value by which points are kept: another
    draw where the objective is random, else the same tensor. `grad`, `jacobian`, `outputs` and
    `gap` are None where they were not asked for or do not exist.
    """

    x: Images
    value: Rows
    score: Rows
    success: Mask
    outputs: Float[Tensor, "n ..."] | None = None
    gap: Rows | None = None
    grad: Theta | None = None
    jacobian: Float[Tensor, "n k *theta"] | None = None


@dataclass
class Passes:
    """Passes of the model so far, summed over rows."""

    forwards: int = 0
    backwards: int = 0


class AbstractEvaluator(ABC):
    """An objective in the variables of a solve, with the derivatives that a rule needs."""

    passes: Passes

    @abstractmethod
    def step(self, state: State, step: int) -> Point:
        """The point where the rows are before the step of that number."""

    @abstractmethod
    def last(self, state: State) -> Point:
        """The point where the rows are after their last step, without derivatives."""


@dataclass
class ByAutograd(AbstractEvaluator):
    """Any objective, differentiated by autograd as far as the rule asks."""

    objective: AbstractObjective
    decode: Callable[[Tensor], Images]
    needs: Needs
    passes: Passes = field(default_factory=Passes)

    def step(self, state: State, step: int) -> Point:
        if not self.needs.derivatives:
            found = self._look(state, "step", step)
            return self._point(state, self.decode(state.theta), found)
        theta = state.theta.detach().requires_grad_()
        grad, jacobian = None, None
        with torch.enable_grad():
            x = self.decode(theta)
            found = self.objective(x, state.context, self._draw(state, "step", step))
            if self.needs.grad:
                # As the gradient of the sum, two operations shorter.
                one, more = torch.ones_like(found.value), self.needs.jacobian
                (grad,) = torch.autograd.grad(found.value, theta, one, retain_graph=more)
                self.passes.backwards += len(theta)
            if self.needs.jacobian:
                jacobian = _jacobian(found.outputs, theta)
                self.passes.backwards += len(theta) * jacobian.shape[1]
        self.passes.forwards += len(theta)
        point = self._point(state, x.detach(), _detached(found))
        return point._replace(grad=grad, jacobian=jacobian)

    def last(self, state: State) -> Point:
        found = self._look(state, "fixed")
        return _as_point(self.decode(state.theta), found, found)

    def _point(self, state: State, x: Images, found: Evaluation) -> Point:
        """The point; success and the value to judge by are those of a fixed draw."""
        fixed = self._look(state, "fixed") if self.objective.is_random else found
        return _as_point(x, found, fixed)

    def _look(self, state: State, *names: object) -> Evaluation:
        self.passes.forwards += len(state.theta)
        with torch.no_grad():
            x = self.decode(state.theta)
            return _detached(self.objective(x, state.context, self._draw(state, *names)))

    def _draw(self, state: State, *names: object) -> Draw:
        return Draw(random.fold(state.keys, *names) if self.objective.is_random else state.keys)


@dataclass
class ByOutputs(AbstractEvaluator):
    """An objective that follows from a model's outputs, for rules that need its gradient alone.

    Where its derivative by the outputs is known in closed form (`derivative`), autograd sees
    the model alone. With `deferred`, success (and the value too, where `needs` allows it) is
    left out on the way, False and NaN: whoever records the points works them out of the outputs.
    """

    objective: OfOutputs
    decode: Callable[[Tensor], Images]
    needs: Needs
    deferred: bool = False
    passes: Passes = field(default_factory=Passes)
    _known: tuple[Any, Derivative | None] | None = None

    def step(self, state: State, step: int) -> Point:
        theta, derivative = state.theta.detach().requires_grad_(), self._derivative(state)
        with torch.enable_grad():
            x = self.decode(theta)
            outputs = self.objective.outputs_of(x)
            value = None if derivative else self.objective.value_of(outputs, state.context)
        seen = outputs.detach()
        if value is not None:
            (grad,) = torch.autograd.grad(value, theta, torch.ones_like(value))
        else:
            assert derivative is not None
            (grad,) = torch.autograd.grad(outputs, theta, derivative(seen))
        self.passes.forwards += len(theta)
        self.passes.backwards += len(theta)
        if not self.deferred:
            return self._point(x.detach(), seen, state, value)._replace(grad=grad)
        if value is None and self.needs.value:
            value = self.objective.value_of(seen, state.context)
        value = theta.new_full((len(theta),), torch.nan) if value is None else value.detach()
        value = in_float32(value)
        none = torch.zeros_like(value, dtype=torch.bool)
        return Point(x.detach(), value, value, none, seen, grad=grad)

    def last(self, state: State) -> Point:
        self.passes.forwards += len(state.theta)
        x = self.decode(state.theta)
        return self._point(x, self.objective.outputs_of(x), state, None)

    def _point(self, x: Images, outputs: Tensor, state: State, value: Rows | None) -> Point:
        if value is None:
            value = self.objective.value_of(outputs, state.context)
        value = in_float32(value.detach())
        success = self.objective.success_of(outputs, state.context)
        return Point(x, value, value, success, outputs)

    def _derivative(self, state: State) -> Derivative | None:
        """Made once for a context; rows that are cut have another."""
        if self._known is None or self._known[0] is not state.context:
            self._known = state.context, self.objective.derivative(state.context)
        return self._known[1]


@dataclass
class Confirmed(AbstractEvaluator):
    """Another evaluator's points, whose successes an exact objective confirms one by one.

    It is asked about those that would be kept. **For** minimum-norm methods, which walk along
    the boundary, where the rounding of a faster model decides.
    """

    fast: AbstractEvaluator
    exact: AbstractObjective
    keep: AbstractKeep

    def __post_init__(self) -> None:
        self.passes = self.fast.passes

    def step(self, state: State, step: int) -> Point:
        return self._confirmed(state, self.fast.step(state, step))

    def last(self, state: State) -> Point:
        return self._confirmed(state, self.fast.last(state))

    def _confirmed(self, state: State, point: Point) -> Point:
        wanted = point.success
        if state.done is not None:
            wanted = wanted & ~state.done
        if state.kept is not None:
            new = Kept(point.x, point.score, point.success)
            wanted = wanted & self.keep.better(new, state.kept, state.center)
        claimed = wanted.nonzero()[:, 0]
        if not len(claimed):
            return point
        part = rows.select((state.context, state.keys), claimed)
        found = evaluated(self.exact, point.x[claimed], *part)
        self.passes.forwards += len(claimed)
        reached = False if found.success is None else found.success
        success = point.success.clone()
        success[claimed] = reached
        return point._replace(success=success)


def evaluator_of(
    objective: AbstractObjective,
    decode: Callable[[Tensor], Images],
    needs: Needs,
    *,
    deferred: bool = False,
) -> AbstractEvaluator:
    """The cheapest way to get what the rule needs; all agree to the last bit."""
    if follows_from_outputs(objective, needs):
        return ByOutputs(objective, decode, needs, deferred)
    return ByAutograd(objective, decode, needs)


def follows_from_outputs(objective: AbstractObjective, needs: Needs) -> TypeGuard[OfOutputs]:
    """Whether the outputs are all that the value's gradient, and nothing else, is asked of."""
    gradient = needs.grad and not needs.jacobian
    return gradient and isinstance(objective, OfOutputs) and not objective.is_random


@torch.no_grad()
def evaluated(objective: AbstractObjective, x: Images, context: Any, keys: Keys) -> Evaluation:
    """An objective at some points, by the fixed draw that judges them."""
    return _detached(objective(x, context, Draw(random.fold(keys, "fixed"))))


def in_float32(value: Rows) -> Rows:
    """Values in at least float32."""
    return value.float() if value.itemsize < 4 else value


def _as_point(x: Images, found: Evaluation, confirmed: Evaluation) -> Point:
    success = confirmed.success
    if success is None:
        success = torch.zeros_like(confirmed.value, dtype=torch.bool)
    return Point(x, found.value, confirmed.value, success, found.outputs, found.gap)


def _detached(found: Evaluation) -> Evaluation:
    outputs = None if found.outputs is None else found.outputs.detach()
    return found._replace(value=in_float32(found.value.detach()), outputs=outputs)


def _jacobian(outputs: Tensor | None, theta: Theta) -> Tensor:
    """The gradients of all outputs, [n, k, ...]."""
    if outputs is None:
        raise RuntimeError("This rule needs an objective with outputs, and it gave none.")
    last = outputs.shape[1] - 1
    return torch.stack(
        [
            torch.autograd.grad(outputs[:, k].sum(), theta, retain_graph=k < last)[0]
            for k in range(last + 1)
        ],
        dim=1,
    )
