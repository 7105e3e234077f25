"""Sets of allowed inputs: a ball around the centre, the pixel box, both, or everything."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import check_positive
from notbugs.core.types import Images, Keys, Rows
from notbugs.engine.norms import AbstractSize


class AbstractSet(ABC):
    """A set of allowed inputs for each row, given the row's centre."""

    is_bounded: ClassVar[bool] = True
    """False where every input is allowed."""

    @abstractmethod
    def project(self, x: Images, center: Images) -> Images:
        """A point of the set near `x`; `x` itself when it is already inside."""

    def around(self, center: Images) -> Callable[[Tensor], Tensor]:
        """`project` as a function of x alone, with shared work for a centre done once."""
        return partial(self.project, center=center)

    @abstractmethod
    def sample(self, center: Images, keys: Keys) -> Images:
        """A random point of the set, with one key per row."""

    @abstractmethod
    def violation(self, x: Images, center: Images) -> Rows:
        """How far outside each row is, [n]; 0 when feasible."""


def _radius(center: Images, eps: float) -> Rows:
    return torch.full((center.shape[0],), eps, dtype=center.dtype, device=center.device)


def _identity(x: Tensor) -> Tensor:
    return x


@final
@dataclass(frozen=True)
class Ball(AbstractSet):
    """{x : norm(x - center) <= eps}; `eps` in pixel units of [0, 1]."""

    norm: AbstractSize
    eps: float

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def project(self, x: Images, center: Images) -> Images:
        return center + self.norm.project(x - center, _radius(center, self.eps))

    def sample(self, center: Images, keys: Keys) -> Images:
        return center + self.norm.sample(center, _radius(center, self.eps), keys)

    def violation(self, x: Images, center: Images) -> Rows:
        return (self.norm.size(x - center) - self.eps).clamp(min=0)


@final
@dataclass(frozen=True)
class Box(AbstractSet):
    """{x : low <= x <= high}, by default the pixel box [0, 1]."""

    low: float = 0.0
    high: float = 1.0

    def project(self, x: Images, center: Images) -> Images:
        return x.clamp(self.low, self.high)

    def sample(self, center: Images, keys: Keys) -> Images:
        u = random.uniform(keys, center.shape[1:], center.dtype)
        return self.low + (self.high - self.low) * u

    def violation(self, x: Images, center: Images) -> Rows:
        excess = torch.maximum(self.low - x, x - self.high).flatten(1)
        return excess.amax(dim=1).clamp(min=0)


@final
@dataclass(frozen=True)
class BallInBox(AbstractSet):
    """{x : norm(x - center) <= eps and 0 <= x <= 1}; `eps` in pixel units of [0, 1].

    The projection is the norm's `project_in_box`: always feasible when the centre lies
    in the box, and the exact projection for Linf, L1 and L0. For L2 it is the ball
    projection followed by the clamp.
    """

    norm: AbstractSize
    eps: float

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def project(self, x: Images, center: Images) -> Images:
        return self.norm.project_in_box(x, center, _radius(center, self.eps))

    def around(self, center: Images) -> Callable[[Tensor], Tensor]:
        return self.norm.around(center, _radius(center, self.eps))

    def sample(self, center: Images, keys: Keys) -> Images:
        moved = center + self.norm.sample(center, _radius(center, self.eps), keys)
        return self.project(moved, center)

    def violation(self, x: Images, center: Images) -> Rows:
        ball = (self.norm.size(x - center) - self.eps).clamp(min=0)
        return torch.maximum(ball, Box().violation(x, center))


@final
@dataclass(frozen=True)
class Everywhere(AbstractSet):
    """No constraint at all."""

    is_bounded: ClassVar[bool] = False

    def project(self, x: Images, center: Images) -> Images:
        return x

    def around(self, center: Images) -> Callable[[Tensor], Tensor]:
        return _identity  # also for variables that are not shaped as images

    def sample(self, center: Images, keys: Keys) -> Images:
        return center + random.normal(keys, center.shape[1:], center.dtype)

    def violation(self, x: Images, center: Images) -> Rows:
        return torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
