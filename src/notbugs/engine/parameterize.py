"""How an input is written in the variables that are optimised."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from notbugs.core.types import Images


class AbstractParameterization(ABC):
    """An invertible way to write images as free variables theta [n, ...]."""

    @abstractmethod
    def encode(self, x: Images) -> Tensor:
        """The variables that decode to `x`."""

    @abstractmethod
    def decode(self, theta: Tensor) -> Images:
        """The images of the variables; differentiable."""


@final
@dataclass(frozen=True)
class Pixels(AbstractParameterization):
    """The pixels themselves."""

    def encode(self, x: Images) -> Tensor:
        return x

    def decode(self, theta: Tensor) -> Images:
        return theta
