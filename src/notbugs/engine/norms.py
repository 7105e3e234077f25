"""Sizes of a perturbation: its norm, the dual norm, steepest directions and projections.

Everything is row by row: `d` has shape [n, ...] and each row is one perturbation. Half
precision is converted to float32, because a norm of 1e-3 already underflows there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.errors import bad_type, bad_value
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Keys, Rows


class AbstractSize(ABC):
    """How large a perturbation is, and the nearest one that is not larger than a radius."""

    name: ClassVar[str]

    @abstractmethod
    def size(self, d: Images) -> Rows:
        """The size of each row, [n], in pixel units of [0, 1]."""

    @abstractmethod
    def project(self, d: Images, radius: Rows) -> Images:
        """argmin over e of ||e - d||_2 subject to size(e) <= radius, row by row."""

    @abstractmethod
    def project_in_box(self, x: Images, center: Images, radius: Rows) -> Images:
        """A point of the ball around `center` that also lies in [0, 1].

        The exact projection onto the intersection for Linf. For L2 the ball projection,
        then the clamp: feasible whenever the centre is in the box, since clamping then
        moves no coordinate away from the centre, but not always the nearest point.
        """

    def around(self, center: Images, radius: Rows) -> Callable[[Tensor], Tensor]:
        """`project_in_box` as a function of x alone, with shared work for a centre done once."""
        return partial(self.project_in_box, center=center, radius=radius)

    @abstractmethod
    def sample(self, like: Images, radius: Rows, keys: Keys) -> Images:
        """A random point of the ball of each row's radius, shaped as `like`."""


def check_size(norm: object, example: str = "Linf()") -> None:
    """Refuses anything but a size, such as a norm's name or a radius; `example` is the remedy."""
    if not isinstance(norm, AbstractSize):
        short = isinstance(norm, str | int | float | type)
        received = f"It is {norm!r}. " if short else ""
        wanted = "a norm such as Linf(), L2() or L1()"
        raise bad_type("norm", wanted, norm, f"{received}Write {example}.")


class AbstractNorm(AbstractSize):
    """A size that is a norm: with a dual norm, steepest directions and uniform samples."""

    @abstractmethod
    def dual(self, g: Images) -> Rows:
        """max over size(d) <= 1 of <g, d>, [n]."""

    @abstractmethod
    def steepest(self, g: Images) -> Images:
        """argmax over size(d) <= 1 of <g, d>; a zero gradient gives a zero step."""


def check_norm(norm: object, argument: str = "norm") -> None:
    """Refuses a size that is not a norm, such as L0: it has no steepest directions."""
    if not isinstance(norm, AbstractNorm):
        raise bad_value(
            argument,
            "be a norm with steepest directions: Linf(), L2() or L1()",
            repr(norm),
            "For few changed pixels use fmn(L0()) or cw_l0().",
        )


def _smallest(x: Tensor) -> float:
    """The smallest positive number of the tensor's type, as a lower bound of divisors."""
    info = torch.finfo(x.dtype)
    return info.tiny * info.eps


@final
@dataclass(frozen=True)
class Linf(AbstractNorm):
    """The largest absolute change of any channel value."""

    name: ClassVar[str] = "linf"

    def size(self, d: Images) -> Rows:
        return rows.flatten(at_least_float32(d)).abs().amax(dim=1)

    def dual(self, g: Images) -> Rows:
        return rows.flatten(at_least_float32(g)).abs().sum(dim=1)

    def steepest(self, g: Images) -> Images:
        return torch.sign(at_least_float32(g))

    def project(self, d: Images, radius: Rows) -> Images:
        d = at_least_float32(d)
        limit = rows.expand(radius.to(d.dtype), d)
        return torch.clamp(d, -limit, limit)

    def project_in_box(self, x: Images, center: Images, radius: Rows) -> Images:
        return self.around(center, radius)(x)

    def around(self, center: Images, radius: Rows) -> Callable[[Tensor], Tensor]:
        limit = rows.expand(radius.to(center.dtype), center)
        low, high = (center - limit).clamp_(min=0), (center + limit).clamp_(max=1)

        def project(x: Tensor) -> Tensor:
            return torch.clamp(at_least_float32(x), low, high)

        return project

    def sample(self, like: Images, radius: Rows, keys: Keys) -> Images:
        like = at_least_float32(like)
        u = random.uniform(keys, like.shape[1:], like.dtype)
        return (2 * u - 1) * rows.expand(radius.to(like.dtype), like)


@final
@dataclass(frozen=True)
class L2(AbstractNorm):
    """The Euclidean length of the change over all channel values."""

    name: ClassVar[str] = "l2"

    def size(self, d: Images) -> Rows:
        return torch.linalg.vector_norm(rows.flatten(at_least_float32(d)), dim=1)

    def dual(self, g: Images) -> Rows:
        return self.size(g)

    def steepest(self, g: Images) -> Images:
        flat = rows.flatten(at_least_float32(g))
        # Scaled by the largest entry first: squares of 1e-25 would underflow to zero.
        largest = flat.abs().amax(dim=1, keepdim=True)
        scaled = flat / largest.clamp_(min=_smallest(flat))
        length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        return (scaled / length.clamp_(min=1)).reshape(g.shape)

    def project(self, d: Images, radius: Rows) -> Images:
        d = at_least_float32(d)
        size = self.size(d)
        shrink = (radius.to(d.dtype) / size.clamp_(min=_smallest(d))).clamp_(max=1)
        return d * rows.expand(shrink, d)

    def project_in_box(self, x: Images, center: Images, radius: Rows) -> Images:
        return (center + self.project(at_least_float32(x) - center, radius)).clamp_(0, 1)

    def sample(self, like: Images, radius: Rows, keys: Keys) -> Images:
        like = at_least_float32(like)
        direction = self.steepest(random.normal(keys, like.shape[1:], like.dtype))
        # The share of the volume within r of the centre is r^d, so r = u^(1/d) is uniform.
        u = random.scalar(random.fold(keys, "length"), torch.float64)
        length = u ** (1.0 / like[0].numel()) if like.shape[0] else u
        return direction * rows.expand(length.to(like.dtype) * radius.to(like.dtype), like)
