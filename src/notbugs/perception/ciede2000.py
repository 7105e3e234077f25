"""The perceptual colour difference CIEDE2000; about 1 is just noticeable."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Rows
from notbugs.models.prepared import without_autocast
from notbugs.perception.ssim import check_pair

TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to XYZ under D65 (IEC 61966-2-1); the sums of its rows are the white point."""
GREY = 1e-4
"""Chroma under which a colour has no hue; far below what 8 bits can tell apart."""
TINY = 1e-16
"""Squares under this count as 0, where a root has no slope."""


@without_autocast()
def lab(x: Images) -> Tensor:
    """sRGB images [n, c, h, w] in [0, 1] as CIELAB under D65, [n, 3, h, w].

    Three channels are red, green and blue; one channel is grey. L lies in [0, 100]. Images
    of less than float32 are taken as float32. Differentiable everywhere in [0, 1].

    **Source**: IEC 61966-2-1 (sRGB); CIE 15 (CIELAB).

    **Raises** ValueError for images of another number of channels.

    >>> white = lab(torch.ones(1, 3, 1, 1)).flatten()
    >>> [round(float(v), 3) + 0 for v in white]
    [100.0, 0.0, 0.0]
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise bad_value(
            "x",
            "have shape [n, 3, height, width] (red, green, blue) or [n, 1, height, width] (grey)",
            f"shape {tuple(x.shape)}",
            "Drop a fourth channel, such as opacity.",
        )
    x = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(min=0)
    x = x.expand(-1, 3, -1, -1)
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    weights = torch.tensor(TO_XYZ, dtype=torch.float64)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(linear)
    fx, fy, fz = _root(torch.einsum("ij,njhw->nihw", weights, linear)).unbind(1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=1)


@without_autocast()
def ciede2000(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> Tensor:
    """The CIEDE2000 difference of CIELAB colours [..., 3], [...]; about 1 is just noticeable.

    With the weights kL = kC = kH = 1. Gradients are finite everywhere: at equal colours,
    where the difference has a tip, and for greys, which have no hue, they are taken as 0 in
    the directions that have none.

    **Source**: Sharma, Wu & Dalal 2005, The CIEDE2000 color-difference formula:
    implementation notes, supplementary test data, and mathematical observations.
    """
    l1, a1, b1 = first.unbind(-1)
    l2, a2, b2 = second.unbind(-1)
    mean_chroma = (_length(a1, b1) + _length(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _saturation(mean_chroma)
    a1, a2 = stretch * a1, stretch * a2
    c1, c2 = _length(a1, b1), _length(a2, b2)
    h1, h2 = _hue(a1, b1, c1), _hue(a2, b2, c2)

    both = (c1 >= GREY) & (c2 >= GREY)
    turn = h2 - h1
    turn = torch.where(turn > math.pi, turn - math.tau, turn)
    turn = torch.where(turn < -math.pi, turn + math.tau, turn)
    turn = torch.where(both, turn, 0.0)
    d_light, d_chroma = l2 - l1, c2 - c1
    d_hue = 2 * _sqrt(c1 * c2) * torch.sin(turn / 2)

    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = torch.where(both, _mean_hue(h1, h2), h1 + h2)
    t = (
        1
        - 0.17 * torch.cos(hue - math.radians(30))
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + math.radians(6))
        - 0.20 * torch.cos(4 * hue - math.radians(63))
    )
    bend = math.radians(30) * torch.exp(-(((torch.rad2deg(hue) - 275) / 25) ** 2))
    from_middle = (light - 50) ** 2
    d_light = d_light / (1 + 0.015 * from_middle / (20 + from_middle).sqrt())
    d_chroma = d_chroma / (1 + 0.045 * chroma)
    d_hue = d_hue / (1 + 0.015 * chroma * t)
    crossed = -2 * _saturation(chroma) * torch.sin(2 * bend) * d_chroma * d_hue
    return _sqrt(d_light**2 + d_chroma**2 + d_hue**2 + crossed)


def colour_difference(x: Tensor, y: Tensor) -> Tensor:
    """CIEDE2000 at every pixel of two batches of sRGB images [n, c, h, w] in [0, 1], [n, h, w].

    **Raises** ValueError for shapes that differ, and for images that have neither one nor
    three channels.
    """
    check_pair(x, y)
    return ciede2000(lab(x).movedim(1, -1), lab(y).movedim(1, -1))


@final
@dataclass(frozen=True)
class ColourDistance:
    """The mean over pixels of the CIEDE2000 difference, [n]; about 1 is just noticeable.

    **Source**: Zhao, Liu & Larson 2020 (arXiv 1911.02466), which adds up squares instead.
    """

    def __call__(self, x: Images, center: Images) -> Rows:
        """The distance of each row of `x` from its row of `center`."""
        return colour_difference(x, center).flatten(1).mean(dim=1)


def _root(t: Tensor) -> Tensor:
    """CIELAB's cube root, straight near 0."""
    delta = 6 / 29
    straight = t / (3 * delta**2) + 4 / 29
    return torch.where(t > delta**3, t.clamp(min=delta**3) ** (1 / 3), straight)


def _sqrt(square: Tensor) -> Tensor:
    """The root, with slope 0 where there is none."""
    known = square > TINY
    return torch.where(known, torch.where(known, square, 1.0).sqrt(), 0.0)


def _length(a: Tensor, b: Tensor) -> Tensor:
    return _sqrt(a * a + b * b)


def _saturation(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)); by powers whose slope at 0 is finite."""
    share = chroma / 25
    return share**3.5 / (share**7 + 1).sqrt()


def _hue(a: Tensor, b: Tensor, chroma: Tensor) -> Tensor:
    """The angle in [0, 2 pi); 0 for a grey."""
    known = chroma >= GREY
    angle = torch.atan2(torch.where(known, b, 0.0), torch.where(known, a, 1.0))
    return torch.where(angle < 0, angle + math.tau, angle)


def _mean_hue(h1: Tensor, h2: Tensor) -> Tensor:
    """The middle of the shorter way between two angles in [0, 2 pi), as the paper rounds it."""
    total = h1 + h2
    wide = (h1 - h2).abs() > math.pi
    around = torch.where(total < math.tau, total + math.tau, total - math.tau)
    return torch.where(wide, around, total) / 2
