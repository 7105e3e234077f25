"""Feature visualisation: images that maximise activations of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine import (
    L2,
    AbstractObjective,
    Adam,
    Box,
    ColorRoot,
    Everywhere,
    Fourier,
    Last,
    LowestValue,
    MaCo,
    RandomCrop,
    Solution,
    Solver,
    Spectrum,
    Steepest,
    Transformed,
)
from notbugs.models import Classifier, prepared
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
from notbugs.representations.transparency import ROW

RELAXED_STEPS = 16
"""Steps with open ReLUs for units that have no gradient at the start, as in Olah et al. 2017."""


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


def maco_solver(
    steps: int = 256, step_size: float = 0.1, *, spectrum: Spectrum | None = None
) -> Solver:
    """A solver of Adam steps on the phases of images whose magnitude spectrum is fixed.

    Made to be used with `Priors(transform=cropped_view())`. `spectrum`: `spectrum_of(images)` of
    real images like those that the model was trained on; None: that of a 1 / f law.

    **Source**: Fel et al. 2023 (arXiv 2306.06805), section 4.
    **Differs from the paper**: Adam in place of NAdam; steps in radians, for phases as they are.
    **Raises** ValueError for `steps` below 1 and a step not above 0.
    """
    check_count(steps, "steps")
    return Solver(Everywhere(), Adam(step_size), steps, MaCo(spectrum), Last())


@dataclass(frozen=True)
class Visualisation:
    """The result of a visualisation.

    - `x` [k, c, h, w]; `start` [k, c, h, w]: where the search started
    - `activation` [k]: the maximised quantity of `x`, without priors; `before` [k]: at the start
    - `solution`: as the solver returned it
    - `attribution` [k, h, w]: the absolute gradients of all steps, added up, the penalties' left
      out; `opacity` makes a transparency map of it
    - `dead` [k]: no step had a gradient and the activation did not rise; `x` is the start then
    - `units` [k]: the unit or channel of each image; None for directions and layers
    """

    x: Images
    start: Images
    activation: Rows
    before: Rows
    solution: Solution
    attribution: Float[Tensor, "k h w"]
    dead: Mask
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
        _sized(model, canvas)
    shown = start if canvas is None else "grey"
    count = 1 if isinstance(shown, str) else len(shown)
    probe = first_images(shown, count, model, seed)[:1]
    seen = read_all(model, read, probe, 1)
    width = (per_channel(seen) if kind == "channel" else seen.flatten(1)).shape[1]
    chosen = torch.arange(width) if units is None else as_unit_indices(units)
    check_units(chosen, width)
    objective = (Channel if kind == "channel" else Unit)(read)
    search = _Search(solver, priors, seed, batch_size, canvas, relaxed_steps)
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
    search = _Search(solver, priors, seed, batch_size, canvas, relaxed_steps)
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
    search = _Search(solver, priors, seed, batch_size, None, relaxed_steps)
    return search.maximised(model, objective, {ROW: torch.arange(len(images))}, images)


@dataclass(frozen=True)
class _Search:
    """How images are searched for."""

    solver: Solver | None
    priors: Priors
    seed: int
    batch_size: int
    canvas: tuple[int, int] | None
    relaxed_steps: int

    def maximised(
        self,
        model: nn.Module,
        objective: AbstractObjective,
        context: dict[str, Tensor],
        start: str | Tensor,
    ) -> Visualisation:
        """The images that maximise minus the objective, one for each row of the context."""
        check_count(self.relaxed_steps, "relaxed_steps", 0)
        count, seed, size = len(next(iter(context.values()))), self.seed, self.batch_size
        like, objective = self._whole(model, objective, count)
        first = first_images(start, count, model, seed, like)
        first = generated(self.priors, first, seed, size)
        solver = self.solver or default_visualisation_solver(self.priors, first.shape[-2:])
        if self.priors.generator is None:
            first = _as_variables(solver, first, size)
        context = {name: _placed(tensor, first) for name, tensor in context.items()}
        attribution = first.new_zeros(count, *first.shape[-2:])
        solution = solve(
            model,
            objective,
            first,
            context,
            solver,
            seed=seed,
            batch_size=size,
            priors=self.priors,
            attribution=attribution,
            relaxed_steps=self.relaxed_steps,
        )
        before, reached = (-values(model, objective, x, context, size) for x in (first, solution.x))
        # The relaxed steps may have led to where nothing rises any more.
        stuck = (solution.zero_grads == solution.steps) & (solution.steps > 0)
        dead = stuck & ~(reached > before)
        return Visualisation(
            x=rows.where(dead, first, solution.x),
            start=first,
            activation=torch.where(dead, before, reached),
            before=before,
            solution=solution,
            attribution=attribution,
            dead=dead,
            units=context.get("unit"),
        )

    def _whole(
        self, model: nn.Module, objective: AbstractObjective, count: int
    ) -> tuple[Images | None, AbstractObjective]:
        """Empty canvases, and the objective of canvases: of the whole one, resized."""
        if self.canvas is None:
            return None, objective
        model = _sized(model, self.canvas)
        c, h, w = model.shape
        like = torch.zeros(count, c, *self.canvas, dtype=model.mean.dtype, device=model.device)
        return like, Transformed(objective, RandomCrop(1.0, 1.0, (h, w)), is_random=False)


def _sized(model: nn.Module, canvas: tuple[int, int]) -> Classifier:
    """The model, which must say the size of its images."""
    for side in canvas:
        check_count(side, "canvas")
    if not isinstance(model, Classifier):
        raise bad_value(
            "canvas",
            "be left out, for this model does not say the shape of its images",
            canvas,
            "`wrap` the model with its shape.",
        )
    return model


@torch.no_grad()
def _as_variables(solver: Solver, images: Images, batch_size: int) -> Images:
    """The images as the solver can write them: with `MaCo` of its magnitudes."""
    code = solver.parameterization
    parts = images.split(batch_size)
    return torch.cat([code.decode(code.encode(x)).to(x) for x in parts]).clamp(0, 1)


def _placed(tensor: Tensor, like: Images) -> Tensor:
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
