"""A model's response to patterns, alone and added to images, and how visible they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_images, check_positive
from notbugs.core.types import Images, Rows
from notbugs.models import prepared
from notbugs.perception import SSIMDistance
from notbugs.representations.activations import check_units
from notbugs.representations.batches import read_all
from notbugs.representations.reading import flat, layer_of


@dataclass(frozen=True)
class PatternResponse:
    """The responses of k units to their patterns at e strengths.

    - `eps` [e]: largest change of a pixel, in pixel units of [0, 1]
    - `alone` [e, k]: f_j(grey + eps F_j) - f_j(grey), with grey = 0.5
    - `added` [e, k]: the mean over images I of f_j(clip(I + eps F_j)) - f_j(I)
    - `seen_alone`, `seen_added` [e, k]: the perceptual distance of grey + eps F_j from grey and,
      as a mean, of clip(I + eps F_j) from I
    - `spread` [k]: the standard deviation of f_j over the images, a unit for rises
    """

    eps: Tensor
    alone: Tensor
    added: Tensor
    seen_alone: Tensor
    seen_added: Tensor
    spread: Tensor


def as_pattern(images: Images, ground: float = 0.5) -> Images:
    """Images as patterns: their difference from a grey `ground`, scaled to a largest entry of 1.

    An image that equals `ground` everywhere becomes 0.

    **Raises** ValueError for images outside [0, 1].
    """
    check_images(images, "images")
    change = images - ground
    largest = change.abs().flatten(1).amax(dim=1)
    return change / torch.where(largest > 0, largest, 1)[:, None, None, None]


@prepared("images", kind=nn.Module)
def pattern_response(
    model: nn.Module,
    patterns: Images,
    units: Sequence[int] | Tensor,
    images: Tensor,
    eps: Sequence[float],
    *,
    layer: str | None = None,
    distance: Callable[[Images, Images], Rows] | None = None,
    batch_size: int = 256,
) -> PatternResponse:
    """The rise of f_j with eps F_j alone and added to images, and the perceptual distances.

    - `patterns` [k, c, h, w] in [-1, 1]: F_j, such as
      `as_pattern(visualise(model, units, start="grey").x)`
    - `units` [k]: j for each pattern, a place in the flattened layer
    - `images` [m, c, h, w] in [0, 1]; `eps`: strengths in (0, 0.5]
    - `layer`: None means the model's embedding; `distance`: by default 1 - SSIM

    This tests a common argument: that adversarial perturbations work because units respond to
    high-frequency patterns that are invisible on an image. On such patterns in visualisations:
    Olah et al. 2017 ("Feature Visualization", Distill).

    **Raises** ValueError for patterns outside [-1, 1] or of another shape than the images, units
    that are out of range or not one per pattern, and strengths outside (0, 0.5].
    """
    _check_patterns(patterns, images)
    patterns = patterns.to(images)
    read = flat(layer_of(model, layer))
    baseline = read_all(model, read, images, batch_size)
    chosen = torch.as_tensor(units, device=images.device)
    if chosen.shape != (len(patterns),):
        raise bad_value("units", f"be {len(patterns)}, one per pattern", tuple(chosen.shape))
    check_units(chosen, baseline.shape[1])
    for e in eps:
        check_positive(e, "eps")
        if e > 0.5:
            raise bad_value("eps", "be at most 0.5, the range around grey", e)
    seen = distance or SSIMDistance()
    grey = torch.full_like(patterns, 0.5)
    at_rest = read_all(model, read, grey[:1], 1)[0, chosen]
    columns: dict[str, list[Tensor]] = {n: [] for n in ("alone", "added", "s_alone", "s_added")}
    with torch.no_grad():
        for e in eps:
            patterned = grey + e * patterns
            response = read_all(model, read, patterned, batch_size)
            columns["alone"].append(response.gather(1, chosen[:, None])[:, 0] - at_rest)
            columns["s_alone"].append(seen(patterned, grey))
            rises, sights = [], []
            for pattern, unit in zip(patterns, chosen.tolist(), strict=True):
                both = (images + e * pattern).clamp(0, 1)
                rise = read_all(model, read, both, batch_size)[:, unit] - baseline[:, unit]
                rises.append(rise.mean())
                sights.append(seen(both, images).mean())
            columns["added"].append(torch.stack(rises))
            columns["s_added"].append(torch.stack(sights))
    stacked = {name: torch.stack(column) for name, column in columns.items()}
    return PatternResponse(
        eps=torch.tensor(list(eps)),
        alone=stacked["alone"],
        added=stacked["added"],
        seen_alone=stacked["s_alone"],
        seen_added=stacked["s_added"],
        spread=baseline[:, chosen].std(dim=0),
    )


def _check_patterns(patterns: Tensor, images: Tensor) -> None:
    if patterns.shape[1:] != images.shape[1:]:
        raise bad_value(
            "patterns",
            f"have shape {tuple(images.shape[1:])} each, as the images",
            tuple(patterns.shape[1:]),
        )
    largest = float(patterns.abs().max())
    if not largest <= 1 + 1e-6:
        raise bad_value("patterns", "lie in [-1, 1]", f"{largest:.3g}", "Use `as_pattern`.")
