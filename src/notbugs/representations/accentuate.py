"""Feature accentuation: what of a feature is in an image, made stronger where it is."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, Solution, Solver
from notbugs.models import prepared
from notbugs.representations.activations import Unit, check_units
from notbugs.representations.batches import read_all, solve, values
from notbugs.representations.invert import EmbeddingDistance
from notbugs.representations.inverted import check_finite
from notbugs.representations.priors import NO_PRIORS, Priors
from notbugs.representations.reading import Read, flat, layer_of
from notbugs.representations.solvers import fourier_solver


@final
@dataclass(frozen=True)
class RelativeDistance(AbstractObjective):
    """||R(x) - embedding|| / ||embedding|| of each row. Context: `embedding` [n, d]."""

    embed: Read

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The value [n]."""
        evaluation = EmbeddingDistance(self.embed)(x, context, draw)
        assert context is not None
        length = context["embedding"].norm(dim=1).clamp(min=1e-12)
        return Evaluation(evaluation.value / length)


@dataclass(frozen=True)
class Accentuation:
    """Images in which a feature is accentuated.

    - `x` [n, c, h, w]
    - `before`, `after` [n]: the activation of the image and of `x`, without priors
    - `moved` [n]: ||A(x) - A(image)|| / ||A(image)||, A the anchor layer
    - `attribution` [n, h, w]: the absolute gradients of the activation over all steps, added up;
      `opacity` makes a transparency map of it
    - `solution`: as the solver returned it
    """

    x: Images
    before: Rows
    after: Rows
    moved: Rows
    attribution: Float[Tensor, "n h w"]
    solution: Solution


@prepared("images", kind=nn.Module)
def accentuate(
    model: nn.Module,
    images: Images,
    unit: int | Tensor,
    weight: float,
    *,
    layer: str | None = None,
    anchor: str | None = None,
    solver: Solver | None = None,
    priors: Priors = NO_PRIORS,
    seed: int = 0,
    batch_size: int = 128,
) -> Accentuation:
    """Each image, changed so that a unit responds more while an earlier layer hardly changes.

    Minimises -R_unit(x) + weight * ||A(x) - A(image)|| / ||A(image)||, from the image.

    - `images` [n, c, h, w] in [0, 1]; `unit`: an index into the flattened layer, or one an image
    - `weight`: how much activation a relative change of 1 of the anchor layer costs
    - `layer`: whose unit; `anchor`: the layer that is kept, by its dotted name; None: the model's
      embedding
    - `solver`: by default `fourier_solver(100)`
    - `priors`: as for `visualise`; random transformations are those of the unit's image, while the
      anchor layer sees the image itself

    **Raises** ValueError for a unit out of range, a negative weight, priors with a generator,
    images outside [0, 1], an unknown layer, and a model without a named embedding when no layer
    is named.
    **Source**: Hamblin et al. 2024 ("Feature Accentuation: Revealing 'What' Features Respond to in
    Natural Images", arXiv 2402.10039).
    **Differs from the paper**: the distance is relative, so that a weight means the same at any
    layer, and is not taken under the random transformations.
    """
    if not 0 <= weight < float("inf"):
        raise bad_value("weight", "be a finite number of at least 0", weight)
    if priors.generator is not None:
        raise bad_value(
            "priors",
            "have no generator, for a search over its code would not start at the image",
            priors.names,
        )
    read, kept, n = layer_of(model, layer), flat(layer_of(model, anchor)), len(images)
    units = torch.as_tensor(unit, device=images.device)
    if units.shape not in ((), (n,)):
        raise bad_value(
            "unit", f"be one number or {n}, one an image", f"shape {tuple(units.shape)}"
        )
    units = units.expand(n)
    check_units(units, read_all(model, read, images[:1], 1).flatten(1).shape[1])
    embedding = read_all(model, kept, images, batch_size)
    check_finite(embedding, "images")
    response, attribution = Unit(read), images.new_zeros(n, *images.shape[-2:])
    context = {"unit": units, "embedding": embedding}
    solution = solve(
        model,
        response,
        images,
        context,
        solver or fourier_solver(100),
        seed=seed,
        batch_size=batch_size,
        priors=priors,
        beside=weight * RelativeDistance(kept),
        attribution=attribution,
    )
    return Accentuation(
        x=solution.x,
        before=-values(model, response, images, context, batch_size),
        after=-values(model, response, solution.x, context, batch_size),
        moved=values(model, RelativeDistance(kept), solution.x, context, batch_size),
        attribution=attribution,
        solution=solution,
    )
