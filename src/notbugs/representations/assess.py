"""How good visualisations are, by more than the eye."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Images, Labels, Rows
from notbugs.models import Classifier, prepared
from notbugs.representations.activations import KINDS, Channel, Unit, check_units
from notbugs.representations.batches import read_all, values
from notbugs.representations.extremes import as_unit_indices, most_activating
from notbugs.representations.reading import layer_of


@dataclass(frozen=True)
class Assessment:
    """How visualisations of k units compare with real images.

    - `activation` [k]: of its unit; `relative` [k]: the same over the largest of the real images
      (not a number where that is not above 0)
    - `rank` [k]: of the unit's class in the other net's logits, 1 where it is the prediction;
      None without another net
    - `distance` [k]: to the nearest real patch, in the embedding; `nearest` [k]: its row; None
      without an embedding
    """

    activation: Rows
    relative: Rows
    rank: Labels | None = None
    distance: Rows | None = None
    nearest: Labels | None = None


@prepared("x", "real", kind=nn.Module)
def assess_visualisations(
    model: nn.Module,
    x: Images,
    units: Sequence[int] | Tensor,
    real: Float[Tensor, "m c h w"],
    *,
    layer: str | None = None,
    kind: str = "unit",
    other: Classifier | None = None,
    classes: Sequence[int] | Tensor | None = None,
    embed: Callable[[Images], Tensor] | None = None,
    patches: Float[Tensor, "p c h w"] | None = None,
    batch_size: int = 64,
) -> Assessment:
    """What visualisations reach, whether another net knows them, and how near real images they are.

    A high activation alone says little: noise to the eye reaches the highest. So ask the same of
    controls: real images of the class, noise of the real images' spectrum, other methods.

    - `x` [k, c, h, w] in [0, 1]: an image for each of the k `units` of `layer` (of `kind`)
    - `real` [m, c, h, w]: images whose activations are the measure
    - `other`: a net trained apart from `model`, on images of the same size; `classes` [k]: the
      class of each unit, by default its number, as for units of "logits"
    - `embed`: images to representations [n, ...] of a third net, by whose L2 distance the nearest
      of the `patches` [p, c, h, w], by default `real`, is found; `lpips(net).embed` is one

    **Raises** ValueError for another number of units or classes than images, units or classes out
    of range, an unknown kind or layer, and images outside [0, 1].
    **Source**: Fel et al. 2023 (arXiv 2306.06805), section 5: plausibility and transferability.
    **Differs from the paper**: the distance to the nearest patch in place of Frechet distances
    (FID), which few images do not determine; the rank of the class in place of its logit.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    chosen = as_unit_indices(units).to(x.device)
    if len(chosen) != len(x):
        raise bad_value("units", f"be {len(x)}, one an image", len(chosen))
    objective = (Channel if kind == "channel" else Unit)(layer_of(model, layer))
    activation = -values(model, objective, x, {"unit": chosen}, batch_size)
    top = most_activating(
        model, real, chosen, layer=layer, kind=kind, count=1, batch_size=batch_size
    ).highest_values[:, 0]
    rank = None if other is None else _rank(other, x, classes, chosen, batch_size)
    distance, nearest = None, None
    if embed is not None:
        patches = real if patches is None else patches
        made, seen = (_embedded(embed, part, batch_size) for part in (x, patches))
        found = torch.cdist(made, seen).min(dim=1)
        distance, nearest = found.values, found.indices
    relative = torch.where(top > 0, activation / top, torch.nan)
    return Assessment(activation, relative, rank, distance, nearest)


def _rank(
    other: Classifier,
    x: Images,
    classes: Sequence[int] | Tensor | None,
    units: Tensor,
    batch_size: int,
) -> Int[Tensor, " k"]:
    """The place of each class among the logits of its image, behind all that are equal to it."""
    wanted = units if classes is None else as_unit_indices(classes).to(x.device)
    if len(wanted) != len(x):
        raise bad_value("classes", f"be {len(x)}, one an image", len(wanted))
    check_units(wanted, other.classes)
    logits = read_all(other, other.logits, x, batch_size)
    own = logits.gather(1, wanted[:, None])
    return (logits >= own).sum(dim=1)


def _embedded(embed: Callable[[Images], Tensor], x: Images, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([embed(part).flatten(1) for part in x.split(batch_size)]).double()
