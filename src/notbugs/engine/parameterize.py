"""Parameterisations: how an image depends on the variables that are optimised."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from notbugs.core.types import Images, Theta


class AbstractParameterization(ABC):
    """An invertible way to write images as free variables theta [n, ...]."""

    in_pixels: ClassVar[bool] = False
    """Whether the variables are the pixels, so that a set can constrain them."""

    @abstractmethod
    def encode(self, x: Images) -> Theta:
        """The variables that decode to `x`."""

    @abstractmethod
    def decode(self, theta: Theta) -> Images:
        """The images of the variables; differentiable."""


@final
@dataclass(frozen=True)
class Pixels(AbstractParameterization):
    """The pixels themselves."""

    in_pixels: ClassVar[bool] = True

    def encode(self, x: Images) -> Theta:
        return x

    def decode(self, theta: Theta) -> Images:
        return theta
