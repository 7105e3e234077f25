"""Adding a feature to images, and finding the feature of an attribute."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Rows
from notbugs.engine import L2, Solver
from notbugs.models import prepared
from notbugs.representations.activations import TargetActivation, check_units, select_units
from notbugs.representations.batches import read_all, solve
from notbugs.representations.inverted import check_finite, lbfgs_inversion
from notbugs.representations.reading import flat, layer_of


@dataclass(frozen=True)
class ManipulationResult:
    """Images with more (or less) of a feature.

    - `x` [n, c, h, w]
    - `before`, `after`, `wanted` [n]: the activation at the start, at the end, and the target
    - `distance` [n]: ||x - image||_2 in pixel units of [0, 1]
    """

    x: Images
    before: Rows
    after: Rows
    wanted: Rows
    distance: Rows


@prepared("images", kind=nn.Module)
def add_feature(
    model: nn.Module,
    images: Images,
    unit: int,
    strength: float | Tensor,
    *,
    layer: str | None = None,
    solver: Solver | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> ManipulationResult:
    """The images changed until the activation of `unit` has risen by `strength`.

    Minimises |R_unit(x) - (R_unit(image) + strength)| over x in [0, 1], from the image.

    - `images` [n, c, h, w] in [0, 1]; `unit`: an index into the flattened layer
    - `strength`: the rise of the activation; a number, or one per row; negative removes the
      feature. `find_attribute` gives a sensible scale
    - `layer`, `solver`, `batch_size`: as for `invert_images`

    Only this coordinate is constrained; the others may change.

    **Raises** ValueError for a unit out of range, strengths of another shape, images outside
    [0, 1], an unknown layer, and a model without a named embedding when no layer is named.
    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.3.
    **Differs from the paper**: the rise is chosen, where the authors' code reaches R_unit = 1.
    """
    read, n = flat(layer_of(model, layer)), len(images)
    units = torch.full((n,), unit, device=images.device)
    activations = read_all(model, read, images, batch_size)
    check_units(units, activations.shape[1])
    check_finite(activations, "images")
    rise = torch.as_tensor(strength, dtype=activations.dtype, device=activations.device)
    if tuple(rise.shape) not in ((), (n,)) or not bool(rise.isfinite().all()):
        raise bad_value(
            "strength", f"be a finite number, or {n}, one an image", f"shape {tuple(rise.shape)}"
        )
    before = select_units(activations, units)
    solution = solve(
        model,
        TargetActivation(read),
        images,
        {"unit": units, "goal": before + rise},
        solver or lbfgs_inversion(),
        seed=seed,
        batch_size=batch_size,
    )
    after = select_units(read_all(model, read, solution.x, batch_size), units)
    return ManipulationResult(
        solution.x, before, after, before + rise, L2().size(solution.x - images)
    )


@dataclass(frozen=True)
class Attribute:
    """How well each of d coordinates separates two groups of images.

    - `unit`: the most predictive coordinate; `order` [d]: all of them, the best first
    - `effect` [d]: the difference of the groups' means in units of their pooled standard
      deviation (Cohen's d); positive: higher where the attribute is
    - `accuracy` [d]: percent of images on the right side of the middle between the means,
      both groups weighing the same; of the images given, so not an estimate for others
    - `difference` [d]: of the means, as a direction for `visualise_directions`
    """

    unit: int
    order: Int[Tensor, " d"]
    effect: Float[Tensor, " d"]
    accuracy: Float[Tensor, " d"]
    difference: Float[Tensor, " d"]


@prepared("having", "lacking", kind=nn.Module)
def find_attribute(
    model: nn.Module,
    having: Images,
    lacking: Float[Tensor, "m c h w"],
    *,
    layer: str | None = None,
    batch_size: int = 256,
) -> Attribute:
    """The coordinate of a layer that an attribute corresponds to, from two groups of images.

    - `having`, `lacking` [n, c, h, w] and [m, c, h, w] in [0, 1]: images with and without
      the attribute, at least two of each
    - `layer`: whose coordinates (flattened); None: the model's embedding

    A coordinate that is the same for all images has no effect; one that is constant within
    both groups and differs between them, the largest.

    **Raises** ValueError for groups of fewer than two images, of different shapes or outside
    [0, 1], an unknown layer, and a model without a named embedding when no layer is named.
    """
    for group, name in ((having, "having"), (lacking, "lacking")):
        if len(group) < 2:
            raise bad_value(name, "hold at least 2 images, for their spread", len(group))
    if having.shape[1:] != lacking.shape[1:]:
        shapes = tuple(having.shape[1:]), tuple(lacking.shape[1:])
        raise bad_value("lacking", f"be of shape {shapes[0]} an image, as `having`", shapes[1])
    read = flat(layer_of(model, layer))
    a, b = (read_all(model, read, group, batch_size).double() for group in (having, lacking))
    check_finite(a, "having")
    check_finite(b, "lacking")
    difference = a.mean(dim=0) - b.mean(dim=0)
    squares = (len(a) - 1) * a.var(dim=0) + (len(b) - 1) * b.var(dim=0)
    spread = (squares / (len(a) + len(b) - 2)).sqrt()
    effect = difference / spread.clamp(min=1e-6 * float(torch.cat([a, b]).abs().max()) + 1e-30)
    middle = (a.mean(dim=0) + b.mean(dim=0)) / 2
    side = torch.where(difference < 0, -1.0, 1.0)
    right = 50 * (_above(a, middle, side) + 1 - _above(b, middle, side))
    order = effect.abs().sort(descending=True, stable=True).indices
    return Attribute(int(order[0]), order, effect, right, difference)


def _above(x: Tensor, middle: Tensor, side: Tensor) -> Tensor:
    """The share of rows on the attribute's side of the middle; just on it counts half."""
    place = torch.sign((x - middle) * side)
    return ((place + 1) / 2).mean(dim=0)
