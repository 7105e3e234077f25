"""What an image is to be like beside what a model asks of it: priors, each switched by itself."""

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
from notbugs.representations.smoothness import FastWaves, TotalVariation

Denoise: TypeAlias = Callable[[Images], Images]
"""Noisy images [n, c, h, w] -> what they show, in [0, 1]; `notbugs.training.train_denoiser`."""


@runtime_checkable
class Generator(Protocol):
    """What makes images of codes; `notbugs.training.train_generator` gives one."""

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

    D(x) counts as a constant, so that the gradient is (x - D(x)) / size: the way from the image
    to where a denoiser would have it, which points uphill in the density of its training
    images.

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
                "denoiser", f"return shape {tuple(x.shape)}, as it is given", tuple(clean.shape)
            )
        return Evaluation((x - clean).square().flatten(1).mean(dim=1) / 2)


@final
@dataclass(frozen=True)
class OfCodes(AbstractObjective):
    """An objective of generated images, as one of their codes [n, d].

    value(decode(z)) + pull * mean(z^2) / 2 of each row.
    """

    objective: AbstractObjective
    decode: Callable[[Embeddings], Images]
    pull: float = 0.0

    def __post_init__(self) -> None:
        """It is random when the objective is."""
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """Value, success and outputs of the images that the codes `x` make."""
        found = self.objective(self.decode(x), context, draw)
        return found._replace(value=found.value + self.pull / 2 * x.square().mean(dim=1))


@dataclass(frozen=True)
class Priors:
    """Which priors are on, and how much they weigh; none of them by default.

    The weights are in units of what is maximised (an activation) or minimised (a distance of
    representations), whose spread over real images tells what is much.

    - `smoothness`: weight of `TotalVariation(1)`
    - `slowness`: weight of `FastWaves(1)`
    - `denoiser` with `denoising`: the weight of `Denoised`
    - `transform` with `samples`: the model sees the image moved at random, `samples` times a
      step, such as `robust_view(h)`; penalties see it as it is
    - `generator` with `pull`: the image is one that this makes of a code, whose mean square
      weighs `pull` / 2; the search starts from codes 0.1 N(0, 1), not from an image

    **Raises** ValueError for negative weights, one without its denoiser, and fewer samples
    than 1.

    >>> Priors(smoothness=0.5).names
    ('total variation',)
    """

    smoothness: float = 0.0
    slowness: float = 0.0
    denoiser: Denoise | None = None
    denoising: float = 0.0
    transform: Transform | None = None
    samples: int = 1
    generator: Generator | None = None
    pull: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what would silently do nothing, or the opposite."""
        for name in ("smoothness", "slowness", "denoising", "pull"):
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
        """The priors that are on, in words."""
        on = {
            "total variation": self.smoothness > 0,
            "frequency weights": self.slowness > 0,
            "denoiser": self.denoiser is not None,
            "random moves": self.transform is not None,
            "generator": self.generator is not None,
        }
        return tuple(name for name, there in on.items() if there)

    def of(self, objective: AbstractObjective) -> AbstractObjective:
        """The objective of images with all of these priors but the generator."""
        if self.transform is not None:
            objective = Transformed(objective, self.transform, self.samples)
        if self.smoothness:
            objective = objective + self.smoothness * TotalVariation()
        if self.slowness:
            objective = objective + self.slowness * FastWaves()
        if self.denoiser is not None:
            objective = objective + self.denoising * Denoised(self.denoiser)
        return objective

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks among them, which are held fixed meanwhile."""
        parts: tuple[Any, ...] = (self.denoiser, self.generator)
        return tuple(part for part in parts if isinstance(part, nn.Module))


NO_PRIORS = Priors()


def in_codes(steps: int = 300, step_size: float = 0.05) -> Solver:
    """A solver of Adam steps on the code of a generator.

    **Raises** ValueError for `steps` below 1 and a step not above 0.
    **Source**: Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural
    networks via deep generator networks" (arXiv 1605.09304).
    """
    check_count(steps, "steps")
    check_positive(step_size, "step_size")
    return Solver(Everywhere(), Adam(step_size), steps, keep=LowestValue())


def first_codes(generator: Generator, n: int, seed: int, like: Tensor) -> Embeddings:
    """0.1 N(0, 1), [n, d]: near the middle of what the generator makes."""
    keys = random.row_keys(n, seed, "codes", device=like.device)
    return 0.1 * random.normal(keys, (generator.width,)).to(like)


def check_solver(solver: Solver) -> None:
    """Refuses solvers that look for an image where a code is looked for."""
    if not isinstance(solver.within, Everywhere) or not isinstance(solver.parameterization, Pixels):
        raise bad_value(
            "solver",
            "look everywhere and in plain numbers for a generator's code",
            solver,
            "Use `in_codes()`.",
        )
