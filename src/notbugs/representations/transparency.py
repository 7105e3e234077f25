"""Where in an image a search found its gradient, as an opacity for each pixel."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation

ROW = "row"
"""The name, in a context, of each row's place in the whole batch."""


@final
@dataclass(frozen=True, eq=False)
class Attributed(AbstractObjective):
    """An objective that adds the absolute gradient of every step to `total`, on its way back.

    The gradient is that of the value by the image, summed over channels; it costs no pass of its
    own, and nothing is added without gradients. Context: `row` [n], the rows' places in `total`.

    - `total` [m, h, w]: of all rows
    """

    objective: AbstractObjective
    total: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The objective's own evaluation."""
        if context is None or not x.requires_grad:
            return self.objective(x, context, draw)
        place, total = context[ROW], self.total

        def add(gradient: Tensor) -> None:
            size = gradient.detach().abs().sum(dim=1)
            total.index_add_(0, place, torch.where(size.isfinite(), size, 0).to(total))

        seen = x.view_as(x)  # so that gradients of other objectives of x are not counted
        seen.register_hook(add)
        return self.objective(seen, context, draw)


def opacity(
    attribution: Float[Tensor, "n h w"], percentile: float = 80.0
) -> Float[Tensor, "n 1 h w"]:
    """Each pixel's opacity in [0, 1]: its attribution over the row's percentile, at most 1.

    Pixels without any gradient are transparent, in a row without any all of them.

    - `attribution` [n, h, w], such as that of `Visualisation`; at least 0
    - `percentile`: the share of pixels, in percent, that are not quite opaque

    **Source**: Fel et al. 2023 (arXiv 2306.06805), section 4, "attribution": the gradients of all
    steps; the percentile is the published code's.

    **Raises** ValueError for a percentile outside (0, 100] and attributions below 0.
    """
    if not 0 < percentile <= 100:
        raise bad_value("percentile", "lie in (0, 100]", percentile)
    if attribution.ndim != 3 or not bool((attribution >= 0).all()):
        raise bad_value("attribution", "be at least 0, [n, h, w]", tuple(attribution.shape))
    flat = attribution.flatten(1)
    place = round(percentile / 100 * (flat.shape[1] - 1))
    bound = flat.sort(dim=1).values[:, place]
    bound = torch.where(bound > 0, bound, flat.amax(dim=1))[:, None, None]
    shown = attribution / torch.where(bound > 0, bound, 1)
    return shown.clamp(max=1)[:, None]


def faded(x: Images, alpha: Float[Tensor, "n 1 h w"], fill: float = 1.0) -> Images:
    """Images [n, c, h, w] of the opacity `alpha` on a ground of the grey level `fill`."""
    return alpha * x + (1 - alpha) * fill
