"""Objectives to minimise: one value per row, and whether the row has reached its goal."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import random
from notbugs.core.types import Images, Keys, Mask, Rows, RowTree

Derivative: TypeAlias = Callable[[Tensor], Tensor]
"""Outputs [n, k] -> the derivative of each row's value by them, [n, k]."""


class Evaluation(NamedTuple):
    """An objective at some inputs: value [n], success [n] or None, outputs or None.

    `gap` [n]: the distance to success, 0 there, if the value itself is not one.
    """

    value: Rows
    success: Mask | None = None
    outputs: Float[Tensor, "n ..."] | None = None
    gap: Rows | None = None


def mean(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The mean of the values, [n]; success and outputs are those of the first."""
    return evaluations[0]._replace(value=torch.stack([e.value for e in evaluations]).mean(dim=0))


@dataclass(frozen=True)
class Draw:
    """Per-row randomness for objectives that need it (random transformations, dropout)."""

    keys: Keys

    def at(self, *names: object) -> Keys:
        """Keys for one purpose, to hand to `notbugs.core.random`."""
        return random.fold(self.keys, *names)


class AbstractObjective(ABC):
    """A function of a batch with one value per row; lower is better.

    It contains no per-row tensor: labels, targets and reference embeddings are passed in
    `context`, so that they are dropped with the rows. Objectives can be added and scaled:
    `distance + 0.1 * penalty` is an objective.
    """

    is_random: bool = False

    @abstractmethod
    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value of each row of `x` [n, ...] and, if there is a goal, its success."""

    def __add__(self, other: "AbstractObjective") -> "AbstractObjective":
        """The sum of two objectives; a row succeeds when it succeeds in both."""
        return Sum(self, other)

    def __mul__(self, weight: float) -> "AbstractObjective":
        """The objective with its value multiplied by a number."""
        return Scaled(self, weight)

    __rmul__ = __mul__


class OfOutputs(AbstractObjective):
    """An objective whose value and success are functions of a model's outputs and the context.

    So they can be computed for the outputs of many steps together. It must not depend on
    anything else: `__call__` is final.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__call__" in vars(cls):
            raise TypeError(f"{cls.__name__} overrides __call__: subclass AbstractObjective.")

    @abstractmethod
    def outputs_of(self, x: Images) -> Float[Tensor, "n ..."]:
        """The outputs [n, k] at `x` [n, ...]; differentiable."""

    @abstractmethod
    def value_of(self, outputs: Float[Tensor, "n ..."], context: RowTree | None) -> Rows:
        """The value [n] of rows with these outputs; differentiable."""

    @abstractmethod
    def success_of(self, outputs: Float[Tensor, "n ..."], context: RowTree | None) -> Mask:
        """The success [n] of rows with these outputs."""

    def derivative(self, context: RowTree | None) -> Derivative | None:
        """The derivative of each row's value by its outputs in closed form; None: by autograd."""
        return None

    @final
    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """Value, success and outputs at `x`."""
        outputs = self.outputs_of(x)
        success = self.success_of(outputs.detach(), context)
        return Evaluation(self.value_of(outputs, context), success, outputs)


@final
@dataclass(frozen=True)
class Sum(AbstractObjective):
    """first + second."""

    first: AbstractObjective
    second: AbstractObjective

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.first.is_random or self.second.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        a, b = self.first(x, context, draw), self.second(x, context, draw)
        if a.success is not None and b.success is not None:
            success = a.success & b.success
        else:
            success = a.success if b.success is None else b.success
        outputs = a.outputs if a.outputs is not None else b.outputs
        return Evaluation(a.value + b.value, success, outputs)


@final
@dataclass(frozen=True)
class Scaled(AbstractObjective):
    """weight * objective."""

    objective: AbstractObjective
    weight: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        inner = self.objective(x, context, draw)
        return inner._replace(value=inner.value * self.weight)
