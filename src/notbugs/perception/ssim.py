"""Structural similarity (SSIM) and multi-scale SSIM of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Rows
from notbugs.models.prepared import without_autocast
from notbugs.perception.gaussian import blurred, gaussian

WINDOW, SIGMA = 11, 1.5
"""The paper's Gaussian window: its side and its standard deviation, in pixels."""
K1, K2 = 0.01, 0.03
"""The paper's constants, in units of the data range (1)."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, the finest first (Wang et al. 2003, section 3.2)."""
SMALLEST = 1e-12
"""Under this, the mean comparison of a scale is taken as constant: its power has no slope at 0."""


@without_autocast()
def ssim(x: Tensor, y: Tensor, *, window: int | None = None, sigma: float | None = None) -> Rows:
    """SSIM of two batches of images, row by row, [n]: at most 1, the value of equal images.

    The mean over all windows that lie wholly in the image, and over channels, of

        (2 m_x m_y + K1^2) (2 s_xy + K2^2) / ((m_x^2 + m_y^2 + K1^2) (s_x^2 + s_y^2 + K2^2))

    with means m, variances s^2 and covariance s_xy under a Gaussian window. Differentiable
    everywhere. Pixels at the border lie in fewer windows, and count less.

    - `x`, `y` [n, c, h, w] in [0, 1], any number of channels
    - `window`: odd side of the window in pixels. None: 11, and on images with a side below
      11 the largest odd number of at most two thirds of it (8x8: 5), so that windows still
      differ
    - `sigma`: standard deviation of the Gaussian in pixels. None: 1.5 for a side of 11, and
      in proportion to the side for others

    **Source**: Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment: from error
    visibility to structural similarity, equation 13.
    **Differs from the paper**: its images are grey; here each channel is compared by itself.
    No downsampling of large images first. A smaller window for small images.

    **Raises** ValueError for shapes that differ, images with a side below 3, and a window
    that is even or larger than the image.

    >>> x = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    >>> [round(float(v), 5) for v in ssim(x, x)]
    [1.0]
    """
    x, y = _pair(x, y)
    kernel = _window(x, window, sigma)
    similarity, _ = _compared(x, y, kernel)
    return similarity.mean(dim=1)


@without_autocast()
def ms_ssim(
    x: Tensor,
    y: Tensor,
    *,
    scales: int = 5,
    window: int = WINDOW,
    sigma: float | None = None,
) -> Rows:
    """Multi-scale SSIM of two batches of images, row by row, [n]: at most 1.

    Contrast and pattern are compared at every scale, brightness at the coarsest; the means
    over windows are raised to the paper's exponents and multiplied, channel by channel.
    From one scale to the next images are averaged over 2x2 pixels (an odd last row or
    column is left out). A negative mean counts as 0.

    - `scales`: 1 to 5. With fewer than five, the first exponents, divided by their sum.
    - `window`, `sigma`: as in `ssim`; the coarsest image must hold the window

    **Source**: Wang, Simoncelli & Bovik 2003, Multi-scale structural similarity for image
    quality assessment, equation 7.
    **Differs from the paper**: fewer scales on request; the means of channels.

    **Raises** ValueError for shapes that differ, a number of scales that is not 1 to 5, and
    images too small for it: five scales and a window of 11 need sides of at least 176.
    """
    x, y = _pair(x, y)
    _check_scales(x, scales, window)
    kernel = _window(x, window, sigma)
    powers = _powers(scales)
    result = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for scale, power in enumerate(powers):
        similarity, pattern = _compared(x, y, kernel)
        result = result * _power(similarity if scale == scales - 1 else pattern, power)
        if scale < scales - 1:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return result.mean(dim=1)


@final
@dataclass(frozen=True)
class SSIMDistance:
    """1 - `ssim`, [n]: 0 for equal images, at most 2. Options as there."""

    window: int | None = None
    sigma: float | None = None

    def __call__(self, x: Images, center: Images) -> Rows:
        """The distance of each row of `x` from its row of `center`."""
        return 1 - ssim(x, center, window=self.window, sigma=self.sigma)


@final
@dataclass(frozen=True)
class MultiScaleDistance:
    """1 - `ms_ssim`, [n]: 0 for equal images, at most 1. Options as there."""

    scales: int = 5
    window: int = WINDOW
    sigma: float | None = None

    def __call__(self, x: Images, center: Images) -> Rows:
        """The distance of each row of `x` from its row of `center`."""
        return 1 - ms_ssim(x, center, scales=self.scales, window=self.window, sigma=self.sigma)


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both images in one dtype of at least float32, after a check of their shapes."""
    check_pair(x, y)
    kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(kind), y.to(kind)


def check_pair(x: Tensor, y: Tensor) -> None:
    """Refuses anything but two batches [n, c, h, w] of one shape."""
    if x.ndim != 4:
        raise bad_value("x", "have shape [n, channels, height, width]", f"shape {tuple(x.shape)}")
    if x.shape != y.shape:
        raise bad_value(
            "y",
            f"have the shape of `x`, {tuple(x.shape)}",
            f"shape {tuple(y.shape)}",
            "Images are compared row by row; resize them, or expand a single one to all rows.",
        )


def _compared(x: Tensor, y: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Means over windows, [n, c], of the whole comparison and of contrast and pattern alone."""
    n, c, h, w = x.shape
    channels = [part.reshape(n * c, 1, h, w) for part in (x, y, x * x, y * y, x * y)]
    mx, my, xx, yy, xy = blurred(torch.cat(channels, dim=1), kernel).unbind(1)
    pattern = (2 * (xy - mx * my) + K2**2) / (xx - mx * mx + yy - my * my + K2**2)
    brightness = (2 * mx * my + K1**2) / (mx * mx + my * my + K1**2)
    both = brightness * pattern
    return both.flatten(1).mean(dim=1).reshape(n, c), pattern.flatten(1).mean(dim=1).reshape(n, c)


def _window(x: Tensor, window: int | None, sigma: float | None) -> Tensor:
    """The Gaussian's weights along one side, which sum to 1."""
    side = min(x.shape[2:])
    if window is None:
        window = _fitting(side)
    else:
        check_count(window, "window", 3)
        if window % 2 == 0:
            raise bad_value("window", "be odd", window, f"Use {window - 1} or {window + 1}.")
    if window > side:
        raise bad_value(
            "x",
            f"have sides of at least {window}, the window",
            f"{x.shape[2]}x{x.shape[3]}",
            "Use a smaller window, or larger images." if side >= 3 else "Enlarge the images.",
        )
    sigma = SIGMA * window / WINDOW if sigma is None else sigma
    check_positive(sigma, "sigma")
    return gaussian(window, sigma).to(x)


def _fitting(side: int) -> int:
    """The window's side for images of that smaller side; at least 3."""
    if side >= WINDOW:
        return WINDOW
    most = 2 * side // 3
    return max(3, most - 1 + most % 2)


def _check_scales(x: Tensor, scales: int, window: int) -> None:
    check_count(scales, "scales")
    if scales > len(SCALES):
        raise bad_value("scales", f"be at most {len(SCALES)}", scales)
    side = min(x.shape[2:])
    if side >> (scales - 1) < window:
        fit = sum(side >> k >= window for k in range(len(SCALES)))
        remedy = f"Use scales={fit}, or a smaller window." if fit else "Use a smaller window."
        raise bad_value(
            "x",
            f"have sides of at least {window << (scales - 1)} for {scales} scales and a window "
            f"of {window}",
            f"{x.shape[2]}x{x.shape[3]}",
            remedy,
        )


def _powers(scales: int) -> Sequence[float]:
    if scales == len(SCALES):  # as printed: they sum to 1.0001
        return SCALES
    total = sum(SCALES[:scales])
    return [power / total for power in SCALES[:scales]]


def _power(mean: Tensor, power: float) -> Tensor:
    """mean ** power, 0 where the mean is not above 0; its slope is finite everywhere."""
    if power == 1:
        return mean.clamp(min=0)
    return torch.where(mean > 0, mean.clamp(min=SMALLEST) ** power, 0.0)
