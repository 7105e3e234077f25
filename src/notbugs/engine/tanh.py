"""The change of variables of Carlini and Wagner, which keeps every pixel in the box."""

from dataclasses import dataclass
from typing import final

import torch

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Theta
from notbugs.engine.parameterize import AbstractParameterization


@final
@dataclass(frozen=True)
class Tanh(AbstractParameterization):
    """x = (tanh(w) + 1) / 2: any real w is an image within [0, 1].

    A pixel at exactly 0 or 1 would have an infinite w and never move. So `encode` multiplies
    2x - 1 by 1 - `inset`; the decoded image is within `inset` / 2 of the original. Measure
    distances from the original image, not from the decoded one.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section V-B, "change of variables".
    """

    inset: float = 1e-6

    def __post_init__(self) -> None:
        if not (1e-7 <= self.inset < 0.5):
            raise bad_value("inset", "lie in [1e-7, 0.5)", self.inset, "The paper's code has 1e-6.")

    def encode(self, x: Images) -> Theta:
        """The variables of `x`; half precision is raised to float32."""
        x = x.float() if x.itemsize < 4 else x
        return torch.atanh((2 * x - 1).clamp(-1, 1) * (1 - self.inset))

    def decode(self, theta: Theta) -> Images:
        return torch.tanh(theta).add(1).mul(0.5)
