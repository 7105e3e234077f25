"""Feature visualisation: images that maximise activations of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Images
from notbugs.engine import Solver
from notbugs.models import prepared
from notbugs.representations.activations import (
    KINDS,
    ActivationNorm,
    Channel,
    Direction,
    Unit,
    check_units,
)
from notbugs.representations.batches import read_all
from notbugs.representations.extremes import as_unit_indices
from notbugs.representations.maximise import RELAXED_STEPS, Search, Visualisation, check_canvas
from notbugs.representations.priors import NO_PRIORS, Priors
from notbugs.representations.reading import first_images, layer_of, per_channel
from notbugs.representations.transparency import ROW


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
    canvas: tuple[int, int] | None = None,
    relaxed_steps: int = RELAXED_STEPS,
    batch_size: int = 128,
) -> Visualisation:
    """An image for each unit that maximises its activation: all units at once.

    - `units`: k indices into the flattened layer; None: all of them
    - `layer`: a dotted name; None: the model's embedding
    - `kind`: "unit", or "channel" for the spatial mean of a channel
    - `start`: "noise", "grey", "uniform", or images [k or 1, c, h, w] in [0, 1]
    - `solver`: by default `pixel_solver()` with a step of side / 224, side the root of h * w;
      `fourier_solver()` for smooth images; `maco_solver()` for those of a natural spectrum
    - `priors`: image priors, such as `Priors(total_variation=0.1)`, or
      `Priors(transform=robust_view(h))` for robustness to random transformations; with a
      generator the default solver is `latent_solver()` and `start` is not used
    - `canvas`: (height, width) of the images, if they are not to be of the model's own size; the
      model sees them resized, or crops of them (`Priors(transform=cropped_view(size))`, with
      `size` the model's), and activations are those of the whole image, resized
    - `relaxed_steps`: steps with open ReLUs (`Relaxed`) that a row takes first if it has no
      gradient at the start; rows that never get one are marked as dead and returned as they were

    **Raises** ValueError for a unit out of range, an unknown layer, kind or start, images
    outside [0, 1] or of another shape, a model without a named embedding when no layer is named,
    and a canvas for a model that does not say the shape of its images.
    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.1; Olah et al. 2017; Fel et al.
    2023 (arXiv 2306.06805).

    >>> from notbugs.models import build
    >>> model = build("linear", shape=(1, 4, 4), classes=3, seed=0)
    >>> found = visualise(model, [0, 2], layer="head", start="grey")
    >>> bool((found.activation > found.before).all())
    True
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    read = layer_of(model, layer)
    if canvas is not None:
        check_canvas(model, canvas)
    shown = start if canvas is None else "grey"
    count = 1 if isinstance(shown, str) else len(shown)
    probe = first_images(shown, count, model, seed)[:1]
    seen = read_all(model, read, probe, 1)
    width = (per_channel(seen) if kind == "channel" else seen.flatten(1)).shape[1]
    chosen = torch.arange(width) if units is None else as_unit_indices(units)
    check_units(chosen, width)
    objective = (Channel if kind == "channel" else Unit)(read)
    search = Search(solver, priors, seed, batch_size, canvas, relaxed_steps)
    return search.maximised(model, objective, {"unit": chosen}, start)


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
    canvas: tuple[int, int] | None = None,
    relaxed_steps: int = RELAXED_STEPS,
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
    search = Search(solver, priors, seed, batch_size, canvas, relaxed_steps)
    return search.maximised(model, objective, context, start)


@prepared("images", kind=nn.Module)
def visualise_layer(
    model: nn.Module,
    images: Images,
    *,
    layer: str | None = None,
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    relaxed_steps: int = RELAXED_STEPS,
    batch_size: int = 128,
) -> Visualisation:
    """Each of `images` [k, c, h, w], changed to maximise ||R(x)||_2 (DeepDream).

    The other arguments and errors are those of `visualise`.

    **Source**: Mordvintsev, Olah & Tyka 2015 ("Inceptionism", Google Research blog).
    """
    objective = ActivationNorm(layer_of(model, layer))
    search = Search(solver, priors, seed, batch_size, None, relaxed_steps)
    return search.maximised(model, objective, {ROW: torch.arange(len(images))}, images)
