"""Inversion of images at any layer of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Rows
from notbugs.engine import L2, LBFGS, Box, LowestValue, Solution, Solver
from notbugs.models import prepared
from notbugs.representations.batches import generated, read_all, solve
from notbugs.representations.invert import EmbeddingDistance, inversion
from notbugs.representations.priors import NO_PRIORS, Priors, latent_solver
from notbugs.representations.reading import first_images, flat, layer_of


def lbfgs_inversion(steps: int = 100, *, memory: int = 10) -> Solver:
    """An L-BFGS solver within the pixel box; needs no step size.

    - `memory`: the number of past steps that it keeps per row

    **Source**: `notbugs.engine.LBFGS`; measured beside the papers' normalised steps in
    benchmarks/results/inversion-*.md.

    **Raises** ValueError for `steps` or a memory below 1.
    """
    check_count(steps, "steps")
    return Solver(Box(), LBFGS(memory, distances=True), steps, keep=LowestValue())


@dataclass(frozen=True)
class InversionResult:
    """The result of an inversion of n images.

    - `x` [n, c, h, w]: the images found; `start` [n, c, h, w]: where the search started
    - `relative_error` [n]: ||R(x) - R(t)|| / ||R(t)||; `start_error` [n]: the same at the start
    - `distance` [n]: ||x - t||_2 in pixel units of [0, 1]; `start_distance` [n] likewise.
      A distance near the start's means that the representation does not determine the image.
    - `solution`: as the solver returned it
    """

    x: Images
    start: Images
    relative_error: Rows
    start_error: Rows
    distance: Rows
    start_distance: Rows
    solution: Solution


@prepared("targets", "start", kind=nn.Module)
def invert_images(
    model: nn.Module,
    targets: Images,
    *,
    layer: str | None = None,
    start: str | Tensor = "noise",
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    batch_size: int = 128,
) -> InversionResult:
    """Images x in [0, 1] with ||R(x) - R(target)||_2 as small as the solver gets it.

    - `model`: a `Classifier`, or another module on images in [0, 1] with a named layer
    - `targets` [n, c, h, w] in [0, 1]: the images whose representation is matched
    - `layer`: whose output (flattened) R is; None: the model's embedding
    - `start`: "noise", "grey", "uniform", or images: n of them, or one for all
    - `solver`: by default `lbfgs_inversion()`; `inversion(steps, step_size)` for the papers'
    - `priors`: image priors; with random transformations the default solver is
      `inversion(200, side / 8, schedule="cosine")`; with a generator it is `latent_solver()`, and
      `start` is not used
    - `seed` of the noise; `batch_size`: images at a time, which does not change the result

    **Raises** ValueError for images outside [0, 1] or of a shape that the model does not
    take, an unknown layer or start, and a model without a named embedding when no layer is
    named.
    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 3, equation 4.
    **Differs from the paper**: by default other steps than its normalised ones, and no
    normalisation by ||R(t)|| inside the objective, which changes no minimum.

    >>> import torch
    >>> from notbugs.models import build
    >>> model = build("linear", shape=(1, 4, 4), classes=3, seed=0)
    >>> found = invert_images(model, torch.rand(2, 1, 4, 4), layer="head")
    >>> bool((found.relative_error < 1e-3).all())
    True
    """
    read = flat(layer_of(model, layer))
    first = first_images(start, len(targets), model, seed, targets).to(targets)
    first = generated(priors, first, seed, batch_size)
    target = read_all(model, read, targets, batch_size)
    check_finite(target, "targets")
    start_distance = (read_all(model, read, first, batch_size) - target).norm(dim=1)
    solution = solve(
        model,
        EmbeddingDistance(read),
        first,
        {"embedding": target},
        solver or default_inversion_solver(priors, first.shape[-2:]),
        seed=seed,
        batch_size=batch_size,
        priors=priors,
    )
    # Not the solution's value, for that holds the priors' share too.
    reached = (read_all(model, read, solution.x, batch_size) - target).norm(dim=1)
    return InversionResult(
        x=solution.x,
        start=first,
        relative_error=reached / target.norm(dim=1).clamp(min=1e-12),
        start_error=start_distance / target.norm(dim=1).clamp(min=1e-12),
        distance=L2().size(solution.x - targets),
        start_distance=L2().size(first - targets),
        solution=solution,
    )


def default_inversion_solver(
    priors: Priors, size: Sequence[int], steps: int | None = None
) -> Solver:
    """The default solver: for latent codes, for randomly transformed images, or for images.

    - `size`: (height, width) of the images; `steps`: None means each solver's default
    """
    if priors.generator is not None:
        return latent_solver() if steps is None else latent_solver(steps)
    if priors.transform is not None:  # L-BFGS would fit the noise
        return inversion(steps or 200, (size[0] * size[1]) ** 0.5 / 8, schedule="cosine")
    return lbfgs_inversion() if steps is None else lbfgs_inversion(steps)


def check_finite(activations: Float[Tensor, "n ..."], argument: str) -> None:
    """Refuses images with NaN or infinity in the layer's output."""
    bad = ~activations.isfinite().all(dim=1)
    if bool(bad.any()):
        raise bad_value(
            argument,
            "have finite activations",
            f"NaN or infinity, first in row {int(bad.nonzero()[0, 0])}",
        )
