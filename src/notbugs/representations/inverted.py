"""Images that a model cannot tell from given ones, at any of its layers."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Rows
from notbugs.engine import L2, LBFGS, Box, LowestValue, Solution, Solver
from notbugs.models import prepared
from notbugs.representations.batches import generated, read_all, solve
from notbugs.representations.invert import EmbeddingDistance, inversion
from notbugs.representations.priors import NO_PRIORS, Priors, in_codes
from notbugs.representations.reading import first_images, flat, layer_of


def quick_inversion(steps: int = 100, *, memory: int = 10) -> Solver:
    """A solver that learns the curvature of each image's problem, within the pixel box.

    It needs no step length. `memory`: images a row that it holds, twice.

    **Source**: `notbugs.engine.LBFGS`; measured beside the papers' normalised steps in
    benchmarks/results/inversion-*.md.

    **Raises** ValueError for `steps` or a memory below 1.
    """
    check_count(steps, "steps")
    return Solver(Box(), LBFGS(memory, distances=True), steps, keep=LowestValue())


@dataclass(frozen=True)
class Inverted:
    """What inversion found, for each of n images.

    - `x` [n, c, h, w]: the images found; `start` [n, c, h, w]: where the search began
    - `relative_error` [n]: ||R(x) - R(t)|| / ||R(t)||; `start_error` [n]: the same at the start
    - `distance` [n]: ||x - t||_2 in pixel units of [0, 1]; `start_distance` [n] likewise.
      Near the start's, the representation says little of what the image looks like.
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
) -> Inverted:
    """Images x in [0, 1] with ||R(x) - R(target)||_2 as small as the solver gets it.

    - `model`: a `Classifier`, or another module on images in [0, 1] with a named layer
    - `targets` [n, c, h, w] in [0, 1]: the images whose representation is matched
    - `layer`: whose output (flattened) R is; None: the model's embedding
    - `start`: "noise", "grey", "uniform", or images: n of them, or one for all
    - `solver`: by default `quick_inversion()`; `inversion(steps, step_size)` for the papers'
    - `priors`: what the image is to be like besides; with random moves the solver is by default
      `inversion(200, side / 8, schedule="cosine")`, with a generator `in_codes()`, and `start`
      is not used
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
    wanted = read_all(model, read, targets, batch_size)
    check_finite(wanted, "targets")
    begun = (read_all(model, read, first, batch_size) - wanted).norm(dim=1)
    found = solve(
        model,
        EmbeddingDistance(read),
        first,
        {"embedding": wanted},
        solver or usual_inversion(priors, first.shape[-2:]),
        seed=seed,
        batch_size=batch_size,
        priors=priors,
    )
    # Not the solution's value, for that holds the priors' share too.
    reached = (read_all(model, read, found.x, batch_size) - wanted).norm(dim=1)
    return Inverted(
        x=found.x,
        start=first,
        relative_error=reached / wanted.norm(dim=1).clamp(min=1e-12),
        start_error=begun / wanted.norm(dim=1).clamp(min=1e-12),
        distance=L2().size(found.x - targets),
        start_distance=L2().size(first - targets),
        solution=found,
    )


def usual_inversion(priors: Priors, size: Sequence[int], steps: int | None = None) -> Solver:
    """The solver for what is searched for: a code, an image that moves, or an image.

    `size`: (height, width) of the images; `steps`: each solver's own number without it.
    """
    if priors.generator is not None:
        return in_codes() if steps is None else in_codes(steps)
    if priors.transform is not None:  # what L-BFGS learns from two steps would be their draws
        return inversion(steps or 200, (size[0] * size[1]) ** 0.5 / 8, schedule="cosine")
    return quick_inversion() if steps is None else quick_inversion(steps)


def check_finite(activations: Tensor, argument: str) -> None:
    """Refuses images of which the layer makes NaN or infinity."""
    bad = ~activations.isfinite().all(dim=1)
    if bool(bad.any()):
        raise bad_value(
            argument,
            "have finite activations",
            f"NaN or infinity, first in row {int(bad.nonzero()[0, 0])}",
        )
