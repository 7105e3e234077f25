"""Image priors for inversion and visualisation, each optional."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

import torch
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Embeddings, Images, RowTree
from notbugs.engine import (
    AbstractObjective,
    Adam,
    Draw,
    Evaluation,
    Everywhere,
    LowestValue,
    Pixels,
    Solver,
    Transform,
    Transformed,
)
from notbugs.representations.smoothness import FrequencyPenalty, TotalVariation

Denoise: TypeAlias = Callable[[Images], Images]
"""Noisy images [n, c, h, w] -> denoised images in [0, 1]; see `notbugs.training.train_denoiser`."""


@runtime_checkable
class Generator(Protocol):
    """A generative model with a latent code; see `notbugs.training.train_generator`."""

    @property
    def width(self) -> int:
        """Numbers in a code; codes of real images are about standard normal."""
        ...

    def decode(self, code: Embeddings) -> Images:
        """Codes [n, d] -> images [n, c, h, w] in [0, 1], differentiable."""
        ...


@final
@dataclass(frozen=True)
class Denoised(AbstractObjective):
    """Half the mean square of x - D(x) over the pixels of each row, D held fixed.

    D(x) counts as a constant, so that the gradient is (x - D(x)) / size. The negative gradient
    points towards the denoised image, uphill in the density of the denoiser's training images.

    **Source**: Romano, Elad & Milanfar 2017 (arXiv 1611.02862), equation 5; Nguyen et al. 2017,
    "Plug & Play Generative Networks" (arXiv 1612.00005), section 2.2; Alain & Bengio 2014
    (arXiv 1211.4246) for the density.
    **Differs from the papers**: Romano et al. penalise x . (x - D(x)), whose gradient is the same
    for the denoisers that they assume.
    """

    denoise: Denoise

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        with torch.no_grad():
            clean = self.denoise(x)
        if clean.shape != x.shape:
            raise bad_value(
                "denoiser", f"return its input's shape, {tuple(x.shape)}", tuple(clean.shape)
            )
        return Evaluation((x - clean).square().flatten(1).mean(dim=1) / 2)


@final
@dataclass(frozen=True)
class LatentObjective(AbstractObjective):
    """An objective on images as a function of a generator's latent codes [n, d].

    value(decode(z)) + pull * mean(z^2) / 2 of each row.
    """

    objective: AbstractObjective
    decode: Callable[[Embeddings], Images]
    pull: float = 0.0

    def __post_init__(self) -> None:

        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """Value, success and outputs of the images that the codes `x` make."""
        evaluation = self.objective(self.decode(x), context, draw)
        return evaluation._replace(value=evaluation.value + self.pull / 2 * x.square().mean(dim=1))


@dataclass(frozen=True)
class Priors:
    """The active priors and their weights; none by default.

    The weights are in units of the quantity that is maximised (an activation) or minimised (a
    distance of representations); its spread over real images is a guide.

    - `total_variation`: weight of `TotalVariation(1)`
    - `frequency_penalty`: weight of `FrequencyPenalty(1)`
    - `denoiser` with `denoising`: the weight of `Denoised`
    - `transform` with `samples`: the model sees the image under random transformations, such as
      `robust_view(h)`, `samples` of them per step; penalties see the image itself
    - `generator` with `pull`: the search is over the generator's latent code, whose mean square
      has weight `pull` / 2, starting from codes 0.1 N(0, 1)

    **Raises** ValueError for negative weights, one without its denoiser, and fewer samples
    than 1.

    >>> Priors(total_variation=0.5).names
    ('total variation',)
    """

    total_variation: float = 0.0
    frequency_penalty: float = 0.0
    denoiser: Denoise | None = None
    denoising: float = 0.0
    transform: Transform | None = None
    samples: int = 1
    generator: Generator | None = None
    pull: float = 0.0

    def __post_init__(self) -> None:

        for name in ("total_variation", "frequency_penalty", "denoising", "pull"):
            if not 0 <= getattr(self, name) < math.inf:
                raise bad_value(name, "be a finite number of at least 0", getattr(self, name))
        if (self.denoiser is None) != (self.denoising == 0):
            raise bad_value(
                "denoising",
                "be above 0 with a denoiser, and only then",
                f"{self.denoising} with denoiser={self.denoiser}",
            )
        if self.pull and self.generator is None:
            raise bad_value("pull", "come with a generator", self.pull)
        check_count(self.samples, "samples")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the active priors."""
        on = {
            "total variation": self.total_variation > 0,
            "frequency weights": self.frequency_penalty > 0,
            "denoiser": self.denoiser is not None,
            "random moves": self.transform is not None,
            "generator": self.generator is not None,
        }
        return tuple(name for name, is_on in on.items() if is_on)

    def of(self, objective: AbstractObjective) -> AbstractObjective:
        """The objective with all of these priors except the generator."""
        return self.penalised(self.seen(objective))

    def seen(self, objective: AbstractObjective) -> AbstractObjective:
        """The objective of randomly transformed images."""
        if self.transform is None:
            return objective
        return Transformed(objective, self.transform, self.samples)

    def penalised(self, objective: AbstractObjective) -> AbstractObjective:
        """The objective with the penalties on the image."""
        if self.total_variation:
            objective = objective + self.total_variation * TotalVariation()
        if self.frequency_penalty:
            objective = objective + self.frequency_penalty * FrequencyPenalty()
        if self.denoiser is not None:
            objective = objective + self.denoising * Denoised(self.denoiser)
        return objective

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The priors that are networks, which must be frozen during a search."""
        parts: tuple[Any, ...] = (self.denoiser, self.generator)
        return tuple(part for part in parts if isinstance(part, nn.Module))


NO_PRIORS = Priors()


def latent_solver(steps: int = 300, step_size: float = 0.05) -> Solver:
    """A solver of Adam steps on the code of a generator.

    **Raises** ValueError for `steps` below 1 and a step not above 0.
    **Source**: Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural
    networks via deep generator networks" (arXiv 1605.09304).
    """
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    return Solver(Everywhere(), Adam(step_size), steps, keep=LowestValue())


def first_codes(generator: Generator, n: int, seed: int, like: Tensor) -> Embeddings:
    """The first codes of a search: 0.1 N(0, 1), [n, d]."""
    keys = random.row_keys(n, seed, "codes", device=like.device)
    return 0.1 * random.normal(keys, (generator.width,)).to(like)


def check_solver(solver: Solver) -> None:
    """Refuses solvers that cannot search over latent codes."""
    if not isinstance(solver.within, Everywhere) or not isinstance(solver.parameterization, Pixels):
        raise bad_value(
            "solver",
            "be unconstrained (`Everywhere`, `Pixels`) for a generator's code",
            solver,
            "Use `latent_solver()`.",
        )
