"""Smoothness penalties: total variation, and a penalty on high frequencies."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation

SMALLEST = 1e-3
"""Differences (pixel units) below this are smoothed in the total variation."""


@final
@dataclass(frozen=True)
class TotalVariation(AbstractObjective):
    """The mean over pixels of ||gradient of the image||^power, of each row.

    The gradient is that of neighbours below and to the right, of all channels together, in
    pixel units of [0, 1]; the last row and column have no such neighbour and a difference of 0.

    - `power`: 1 keeps edges and flattens the rest; 2 blurs edges too

    **Raises** ValueError for a power outside [1, 2].
    **Source**: Rudin, Osher & Fatemi 1992; as a prior of inversion Mahendran & Vedaldi 2015
    (arXiv 1412.0035), equation 4, whose beta is `power`.
    **Differs from the papers**: a mean in place of the sum, so that a weight means the same at
    any size; at power 1 differences are smoothed below a thousandth, where the root has no slope.

    >>> objective = TotalVariation()
    >>> float(objective(torch.full((1, 3, 4, 4), 0.3), None, Draw(torch.zeros(1).long())).value)
    0.0
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 2:
            raise bad_value("power", "lie in [1, 2]", self.power)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        down = torch.zeros_like(x)
        across = torch.zeros_like(x)
        down[..., :-1, :] = x.diff(dim=-2)
        across[..., :, :-1] = x.diff(dim=-1)
        square = (down.square() + across.square()).sum(dim=1)
        if self.power < 2:
            soft = SMALLEST**2
            square = (square + soft).pow(self.power / 2) - soft ** (self.power / 2)
        return Evaluation(square.flatten(1).mean(dim=1))


@final
@dataclass(frozen=True)
class FrequencyPenalty(AbstractObjective):
    """The mean squared Fourier amplitudes of each row, weighted by (f / highest)^(2 * power).

    With power 0 it would be the mean square of the pixels (Parseval); with 1 it is that of their
    gradients. The mean of the image, f = 0, is not penalised. f is the length of the 2D frequency
    in cycles per pixel; the highest is that of the corner, 1 / sqrt(2).

    **Raises** ValueError for a power that is not above 0.
    **Source**: the frequency penalisation of Olah et al. 2017 ("Feature Visualization",
    Distill), "The Enemy of Feature Visualization", as an explicit weight.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.power, "power")

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        waves = torch.fft.fft2(x, norm="ortho")
        energy = waves.real.square() + waves.imag.square()
        weight = (frequencies(x) * math.sqrt(2)).pow(2 * self.power).to(x.dtype)
        return Evaluation((weight * energy).flatten(1).mean(dim=1))


def frequencies(like: Tensor) -> Tensor:
    """The length of each frequency of the 2D discrete Fourier transform, [h, w], cycles per pixel.

    In float64, so that rounding does not move a frequency across a bin's border.
    """
    h, w = like.shape[-2:]
    down = torch.fft.fftfreq(h, dtype=torch.float64, device=like.device)
    across = torch.fft.fftfreq(w, dtype=torch.float64, device=like.device)
    return torch.hypot(down[:, None], across)
