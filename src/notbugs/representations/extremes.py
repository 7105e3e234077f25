"""The images of a dataset that activate a unit most and least."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.types import Images
from notbugs.models import prepared
from notbugs.representations.activations import KINDS, check_units
from notbugs.representations.batches import read_all
from notbugs.representations.reading import layer_of, per_channel


@dataclass(frozen=True)
class Extremes:
    """For each of k units, the rows of the images that activate it most and least.

    - `units` [k]
    - `highest`, `lowest` [k, count]: rows of the images, the most extreme first; among
      equal ones the earlier row
    - `highest_values`, `lowest_values` [k, count]: their activations
    """

    units: Tensor
    highest: Tensor
    highest_values: Tensor
    lowest: Tensor
    lowest_values: Tensor


@prepared("images", kind=nn.Module)
def most_activating(
    model: nn.Module,
    images: Images,
    units: Sequence[int] | Tensor | None = None,
    *,
    layer: str | None = None,
    kind: str = "unit",
    count: int = 8,
    batch_size: int = 256,
) -> Extremes:
    """The `count` images that activate each unit most, and those that do least.

    - `images` [n, c, h, w] in [0, 1]
    - `units`: k indices into the flattened layer, or channels; None: all of them
    - `layer`, `kind`: as for `visualise`

    **Raises** ValueError for a `count` above the number of images, a unit out of range,
    images outside [0, 1], an unknown layer or kind, and a model without a named embedding
    when no layer is named.
    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 3.
    """
    check_count(count, "count")
    if count > len(images):
        raise bad_value("count", f"be at most {len(images)}, the number of images", count)
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    read = layer_of(model, layer)
    chosen = None if units is None else as_unit_indices(units).to(images.device)

    def wanted(x: Images) -> Tensor:
        activations = read(x)
        table = per_channel(activations) if kind == "channel" else activations.flatten(1)
        if chosen is None:
            return table
        check_units(chosen, table.shape[1])
        return table[:, chosen]

    table = read_all(model, wanted, images, batch_size).T
    up = table.sort(dim=1, stable=True, descending=True)
    down = table.sort(dim=1, stable=True)
    return Extremes(
        units=torch.arange(len(table), device=table.device) if chosen is None else chosen,
        highest=up.indices[:, :count],
        highest_values=up.values[:, :count],
        lowest=down.indices[:, :count],
        lowest_values=down.values[:, :count],
    )


def as_unit_indices(units: Sequence[int] | Tensor) -> Tensor:
    """`units` as int64 [k].

    **Raises** ValueError for anything but a non-empty list of integers.
    """
    indices = torch.as_tensor(units)
    if indices.ndim != 1 or not len(indices) or indices.is_floating_point():
        raise bad_value("units", "be a non-empty list of integers", units)
    return indices.to(torch.int64)
