"""Evaluators: the value of a point and its derivatives, with the model passes counted."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Keys, Mask, Rows, Theta
from notbugs.engine.keep import AbstractKeep, Kept
from notbugs.engine.objective import AbstractObjective, Derivative, Draw, Evaluation, OfOutputs
from notbugs.engine.rules import Needs
from notbugs.engine.state import State


class Point(NamedTuple):
    """An evaluation of the active rows, one entry per row.

    `value` is what the rule sees and `score` the value by which points are kept: another draw
    if the objective is random, else the same tensor. `grad`, `jacobian`, `outputs` and `gap`
    are None if they were not needed or do not exist.
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
    """Forward and backward passes of the model so far, summed over rows."""

    forwards: int = 0
    backwards: int = 0


class AbstractEvaluator(ABC):
    """An objective in the variables of a solve, with the derivatives that a rule needs."""

    passes: Passes

    @abstractmethod
    def step(self, state: State, step: int) -> Point:
        """The rows' points before step number `step`."""

    @abstractmethod
    def last(self, state: State) -> Point:
        """The rows' points after the last step, without derivatives."""


@dataclass
class ByAutograd(AbstractEvaluator):
    """Any objective, with the derivatives that the rule needs from autograd."""

    objective: AbstractObjective
    decode: Callable[[Tensor], Images]
    needs: Needs
    passes: Passes = field(default_factory=Passes)

    def step(self, state: State, step: int) -> Point:
        if not self.needs.derivatives:
            evaluation = self._evaluated(state, "step", step)
            return self._point(state, self.decode(state.theta), evaluation)
        theta = state.theta.detach().requires_grad_()
        grad, jacobian = None, None
        with torch.enable_grad():
            x = self.decode(theta)
            evaluation = self.objective(x, state.context, self._draw(state, "step", step))
            if self.needs.grad:
                # As the gradient of the sum, two operations shorter.
                ones, more = torch.ones_like(evaluation.value), self.needs.jacobian
                (grad,) = torch.autograd.grad(evaluation.value, theta, ones, retain_graph=more)
                self.passes.backwards += len(theta)
            if self.needs.jacobian:
                jacobian = _jacobian(evaluation.outputs, theta)
                self.passes.backwards += len(theta) * jacobian.shape[1]
        self.passes.forwards += len(theta)
        point = self._point(state, x.detach(), _detached(evaluation))
        return point._replace(grad=grad, jacobian=jacobian)

    def last(self, state: State) -> Point:
        evaluation = self._evaluated(state, "fixed")
        return _as_point(self.decode(state.theta), evaluation, evaluation)

    def _point(self, state: State, x: Images, evaluation: Evaluation) -> Point:
        """The point; its success and score are those of a fixed draw."""
        fixed = self._evaluated(state, "fixed") if self.objective.is_random else evaluation
        return _as_point(x, evaluation, fixed)

    def _evaluated(self, state: State, *names: object) -> Evaluation:
        self.passes.forwards += len(state.theta)
        with torch.no_grad():
            x = self.decode(state.theta)
            return _detached(self.objective(x, state.context, self._draw(state, *names)))

    def _draw(self, state: State, *names: object) -> Draw:
        return Draw(random.fold(state.keys, *names) if self.objective.is_random else state.keys)


@dataclass
class ByOutputs(AbstractEvaluator):
    """An objective computed from a model's outputs, for rules that need only its gradient.

    If its derivative by the outputs is known in closed form (`derivative`), autograd only
    differentiates the model. With `deferred`, success is not computed at each step (False), nor
    is the value if `needs` allows it (NaN): the record computes them later from the outputs.
    """

    objective: OfOutputs
    decode: Callable[[Tensor], Images]
    needs: Needs
    deferred: bool = False
    passes: Passes = field(default_factory=Passes)
    _cached: tuple[Any, Derivative | None] | None = None
    _unknown: tuple[Rows, Mask] | None = None

    def step(self, state: State, step: int) -> Point:
        theta, derivative = state.theta.detach().requires_grad_(), self._derivative(state)
        with torch.enable_grad():
            x = self.decode(theta)
            outputs = self.objective.outputs_of(x)
            value = None if derivative else self.objective.value_of(outputs, state.context)
        detached = outputs.detach()
        if value is not None:
            (grad,) = torch.autograd.grad(value, theta, torch.ones_like(value))
        else:
            assert derivative is not None
            (grad,) = torch.autograd.grad(outputs, theta, derivative(detached))
        n = theta.shape[0]
        self.passes.forwards += n
        self.passes.backwards += n
        if not self.deferred:
            return self._point(x.detach(), detached, state, value)._replace(grad=grad)
        if value is None and self.needs.value:
            value = self.objective.value_of(detached, state.context)
        if self._unknown is None or self._unknown[1].shape[0] != n:
            no_success = torch.zeros(n, dtype=torch.bool, device=theta.device)
            self._unknown = at_least_float32(theta.new_full((n,), torch.nan)), no_success
        no_value, no_success = self._unknown
        value = no_value if value is None else at_least_float32(value.detach())
        return Point(x.detach(), value, value, no_success, detached, grad=grad)

    def last(self, state: State) -> Point:
        self.passes.forwards += len(state.theta)
        x = self.decode(state.theta)
        return self._point(x, self.objective.outputs_of(x), state, None)

    def _point(self, x: Images, outputs: Tensor, state: State, value: Rows | None) -> Point:
        if value is None:
            value = self.objective.value_of(outputs, state.context)
        value = at_least_float32(value.detach())
        success = self.objective.success_of(outputs, state.context)
        return Point(x, value, value, success, outputs)

    def _derivative(self, state: State) -> Derivative | None:
        """The derivative, computed once per context (dropping rows changes the context)."""
        if self._cached is None or self._cached[0] is not state.context:
            self._cached = state.context, self.objective.derivative(state.context)
        return self._cached[1]


@dataclass
class Confirmed(AbstractEvaluator):
    """Another evaluator's points, with each success confirmed by an exact objective.

    Only successes that would be kept are confirmed. **For** minimum-norm methods, which stay
    near the boundary, where the rounding of a faster model can change the prediction.
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
        unconfirmed = point.success
        if state.done is not None:
            unconfirmed = unconfirmed & ~state.done
        if state.kept is not None:
            new = Kept(point.x, point.score, point.success)
            unconfirmed = unconfirmed & self.keep.better(new, state.kept, state.center)
        claimed = unconfirmed.nonzero()[:, 0]
        if not len(claimed):
            return point
        context_and_keys = rows.select((state.context, state.keys), claimed)
        evaluation = evaluated(self.exact, point.x[claimed], *context_and_keys)
        self.passes.forwards += len(claimed)
        confirmed = False if evaluation.success is None else evaluation.success
        success = point.success.clone()
        success[claimed] = confirmed
        return point._replace(success=success)


def evaluator_of(
    objective: AbstractObjective,
    decode: Callable[[Tensor], Images],
    needs: Needs,
    *,
    deferred: bool = False,
) -> AbstractEvaluator:
    """The cheapest evaluator for what the rule needs; all give identical results."""
    if follows_from_outputs(objective, needs):
        return ByOutputs(objective, decode, needs, deferred)
    return ByAutograd(objective, decode, needs)


def follows_from_outputs(objective: AbstractObjective, needs: Needs) -> TypeGuard[OfOutputs]:
    """Whether the rule only needs the gradient of a value that is a function of the outputs."""
    gradient = needs.grad and not needs.jacobian
    return gradient and isinstance(objective, OfOutputs) and not objective.is_random


@torch.no_grad()
def evaluated(objective: AbstractObjective, x: Images, context: Any, keys: Keys) -> Evaluation:
    """An objective at the points `x`, by the fixed draw with which points are compared."""
    return _detached(objective(x, context, Draw(random.fold(keys, "fixed"))))


def _as_point(x: Images, evaluation: Evaluation, fixed: Evaluation) -> Point:
    success = fixed.success
    if success is None:
        success = torch.zeros_like(fixed.value, dtype=torch.bool)
    return Point(x, evaluation.value, fixed.value, success, evaluation.outputs, evaluation.gap)


def _detached(evaluation: Evaluation) -> Evaluation:
    outputs = None if evaluation.outputs is None else evaluation.outputs.detach()
    return evaluation._replace(value=at_least_float32(evaluation.value.detach()), outputs=outputs)


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
