"""Feature visualisation: images that maximise activations of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.types import Images, Rows
from notbugs.engine import (
    L2,
    AbstractObjective,
    Adam,
    Box,
    ColorRoot,
    Everywhere,
    Fourier,
    LowestValue,
    Solution,
    Solver,
    Steepest,
)
from notbugs.models import prepared
from notbugs.representations.activations import (
    KINDS,
    ActivationNorm,
    Channel,
    Direction,
    Unit,
    check_units,
)
from notbugs.representations.batches import generated, read_all, solve, values
from notbugs.representations.extremes import as_unit_indices
from notbugs.representations.priors import NO_PRIORS, Priors, latent_solver
from notbugs.representations.reading import first_images, layer_of, per_channel


def pixel_solver(steps: int = 200, step_size: float = 1.0, *, schedule: str = "constant") -> Solver:
    """A solver of normalised L2 gradient steps in pixels, without any prior.

    `step_size` in pixel units of [0, 1]; the paper's 1 is for 224 x 224 x 3 images.

    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.1 and authors' code.
    **Raises** ValueError for `steps` below 1, a step not above 0, and an unknown schedule.
    """
    check_count(steps, "steps")
    return Solver(Box(), Steepest(L2(), step_size, schedule), steps, keep=LowestValue())


def default_visualisation_solver(
    priors: Priors, size: Sequence[int], steps: int | None = None
) -> Solver:
    """The default solver: for latent codes with a generator, else for pixels.

    - `size`: (height, width) of the images; `steps`: None means each solver's default
    """
    if priors.generator is not None:
        return latent_solver() if steps is None else latent_solver(steps)
    return pixel_solver(steps or 200, (size[0] * size[1]) ** 0.5 / 224)


def fourier_solver(
    steps: int = 512,
    step_size: float = 0.05,
    *,
    decay: float = 1.0,
    colors: ColorRoot | None = None,
) -> Solver:
    """A solver of Adam steps on `Fourier` coefficients, which favours smooth images.

    `colors`: see `color_root`. Mostly used with `Priors(transform=robust_view(side))`.

    **Source**: Olah et al. 2017 ("Feature Visualization", Distill).
    **Raises** ValueError for `steps` below 1, a step not above 0, and bad colours.
    """
    check_count(steps, "steps")
    waves = Fourier(decay, colors)
    return Solver(Everywhere(), Adam(step_size), steps, waves, LowestValue())


@dataclass(frozen=True)
class Visualisation:
    """The result of a visualisation.

    - `x` [k, c, h, w]; `start` [k, c, h, w]: where the search started
    - `activation` [k]: the maximised quantity of `x`, without priors; `before` [k]: at the start
    - `solution`: as the solver returned it; where its `zero_grads` equal its `steps`, the unit
      had no gradient at the start and the image did not change
    - `units` [k]: the unit or channel of each image; None for directions and layers
    """

    x: Images
    start: Images
    activation: Rows
    before: Rows
    solution: Solution
    units: Tensor | None = None


@prepared("start", kind=nn.Module)
def visualise(
    model: nn.Module,
    units: Sequence[int] | Tensor | None = None,
    *,
    layer: str | None = None,
    kind: str = "unit",
    start: str | Tensor = "noise",
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    batch_size: int = 128,
) -> Visualisation:
    """An image for each unit that maximises its activation: all units at once.

    - `units`: k indices into the flattened layer; None: all of them
    - `layer`: a dotted name; None: the model's embedding
    - `kind`: "unit", or "channel" for the spatial mean of a channel
    - `start`: "noise", "grey", "uniform", or images [k or 1, c, h, w] in [0, 1]
    - `solver`: by default `pixel_solver()` with a step of side / 224, side the root of h * w;
      `fourier_solver()` for smooth images
    - `priors`: image priors, such as `Priors(total_variation=0.1)`, or
      `Priors(transform=robust_view(h))` for robustness to random transformations; with a
      generator the default solver is `latent_solver()` and `start` is not used

    **Raises** ValueError for a unit out of range, an unknown layer, kind or start, images
    outside [0, 1] or of another shape, and a model without a named embedding when no layer
    is named.
    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.1; Olah et al. 2017.

    >>> from notbugs.models import build
    >>> model = build("linear", shape=(1, 4, 4), classes=3, seed=0)
    >>> found = visualise(model, [0, 2], layer="head", start="grey")
    >>> bool((found.activation > found.before).all())
    True
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    read = layer_of(model, layer)
    probe = first_images(start, 1 if isinstance(start, str) else len(start), model, seed)[:1]
    seen = read_all(model, read, probe, 1)
    width = (per_channel(seen) if kind == "channel" else seen.flatten(1)).shape[1]
    chosen = torch.arange(width) if units is None else as_unit_indices(units)
    check_units(chosen, width)
    objective = (Channel if kind == "channel" else Unit)(read)
    return _maximised(model, objective, {"unit": chosen}, start, solver, priors, seed, batch_size)


@prepared("start", kind=nn.Module)
def visualise_directions(
    model: nn.Module,
    directions: Tensor,
    *,
    layer: str | None = None,
    start: str | Tensor = "noise",
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    batch_size: int = 128,
) -> Visualisation:
    """An image for each direction v that maximises <R(x), v>.

    `directions` [k, d]: of the flattened layer, or of the means of its channels. The other
    arguments, errors and sources are those of `visualise`.
    """
    if directions.ndim != 2 or not bool(directions.isfinite().all()):
        raise bad_value(
            "directions", "be finite, of shape [k, d]", f"shape {tuple(directions.shape)}"
        )
    objective = Direction(layer_of(model, layer))
    context = {"direction": directions.detach()}
    return _maximised(model, objective, context, start, solver, priors, seed, batch_size)


@prepared("images", kind=nn.Module)
def visualise_layer(
    model: nn.Module,
    images: Images,
    *,
    layer: str | None = None,
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    batch_size: int = 128,
) -> Visualisation:
    """Each of `images` [k, c, h, w], changed to maximise ||R(x)||_2 (DeepDream).

    The other arguments and errors are those of `visualise`.

    **Source**: Mordvintsev, Olah & Tyka 2015 ("Inceptionism", Google Research blog).
    """
    objective = ActivationNorm(layer_of(model, layer))
    context = {"row": torch.arange(len(images))}
    return _maximised(model, objective, context, images, solver, priors, seed, batch_size)


def _maximised(
    model: nn.Module,
    objective: AbstractObjective,
    context: dict[str, Tensor],
    start: str | Tensor,
    solver: Solver | None,
    priors: Priors,
    seed: int,
    batch_size: int,
) -> Visualisation:
    count = len(next(iter(context.values())))
    first = first_images(start, count, model, seed)
    first = generated(priors, first, seed, batch_size)
    context = {name: _placed(tensor, first) for name, tensor in context.items()}
    solution = solve(
        model,
        objective,
        first,
        context,
        solver or default_visualisation_solver(priors, first.shape[-2:]),
        seed=seed,
        batch_size=batch_size,
        priors=priors,
    )
    return Visualisation(
        x=solution.x,
        start=first,
        activation=-values(model, objective, solution.x, context, batch_size),
        before=-values(model, objective, first, context, batch_size),
        solution=solution,
        units=context.get("unit"),
    )


def _placed(tensor: Tensor, like: Images) -> Tensor:
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
