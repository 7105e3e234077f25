"""Objectives on a model's activations, to be minimised.

They take a reader (images in, activations out; see `layer_of`). Per-row data, such as the index
of a unit, is passed in the context.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation
from notbugs.representations.reading import Read, per_channel

KINDS = ("unit", "channel")


@final
@dataclass(frozen=True)
class Unit(AbstractObjective):
    """Minus one activation of each row. Context: `unit` [n], an index into the flattened layer."""

    read: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        return Evaluation(-select_units(self.read(x).flatten(1), _of(context, "unit")))


@final
@dataclass(frozen=True)
class Channel(AbstractObjective):
    """Minus the spatial mean of one channel of each row. Context: `unit` [n]."""

    read: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        return Evaluation(-select_units(per_channel(self.read(x)), _of(context, "unit")))


@final
@dataclass(frozen=True)
class Direction(AbstractObjective):
    """-<a, v> of each row. Context: `direction` [n, d].

    a is the flattened layer, or, where v has an entry a channel, the channels' means.
    """

    read: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        return Evaluation(-dot_direction(self.read(x), _of(context, "direction")))


@final
@dataclass(frozen=True)
class ActivationNorm(AbstractObjective):
    """-||a||_2 of the whole layer of each row, as in DeepDream. No context."""

    read: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        return Evaluation(-torch.linalg.vector_norm(self.read(x).flatten(1), dim=1))


@final
@dataclass(frozen=True)
class TargetActivation(AbstractObjective):
    """|a_unit - goal| of each row. Context: `unit` [n], `goal` [n]."""

    read: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        activation = select_units(self.read(x).flatten(1), _of(context, "unit"))
        return Evaluation((activation - _of(context, "goal")).abs())


def select_units(activations: Float[Tensor, "n ..."], units: Tensor) -> Rows:
    """The entry `units` [n] of each row of [n, d].

    **Raises** ValueError for one that is not in 0..d-1.
    """
    check_units(units, activations.shape[1])
    return activations.gather(1, units[:, None])[:, 0]


def dot_direction(activations: Float[Tensor, "n ..."], direction: Tensor) -> Rows:
    """<a, v> of each row: v [n, d] of the flattened layer, or of its channels' means.

    **Raises** ValueError for directions of another length.
    """
    flattened, means = rows.flatten(activations), per_channel(activations)
    for a in (flattened, means):
        if a.shape == direction.shape:
            return (a * direction).sum(dim=1)
    raise bad_value(
        "direction",
        f"have {flattened.shape[1]} entries a row, or {means.shape[1]}, one a channel",
        f"shape {tuple(direction.shape)}",
    )


def check_units(units: Tensor, width: int) -> None:
    """Refuses units that are not in 0..width-1."""
    bad = (units < 0) | (units >= width)
    if bool(bad.any()):
        raise bad_value(
            "units", f"lie in 0..{width - 1} for this layer", int(units[bad.nonzero()[0, 0]])
        )


def _of(context: RowTree | None, name: str) -> Tensor:
    if context is None or name not in context:
        raise KeyError(f"This objective needs the per-row tensor '{name}' in its context.")
    return context[name]
