"""How blurred a photograph is, measured at its edges."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from notbugs.photo.layout import MARK, Mark

MODULE = MARK / 7
"""The side of a mark's squares in mm: 5x5 within a black frame of one."""
SLOPE = (2 * np.pi) ** 0.5
"""An edge of contrast c, blurred by a Gaussian of s, has the slope c / (s * this) at its middle."""


def mark_blur(cv2: Any, grey: np.ndarray, homography: np.ndarray, marks: Sequence[Mark]) -> float:
    """The standard deviation of the blur in mm, from the outer edges of marks: their median.

    - `grey` [h, w]: the photograph, uint8
    - `homography` [3, 3]: from mm to pixels
    """
    across = np.linspace(-MODULE, MODULE, 49)  # from the white around the mark into its frame
    along = np.linspace(0.15, 0.85, 24) * MARK
    widths: list[float] = []
    for mark in marks:
        for flip in (False, True):
            for depth in (across, MARK - across):
                x, y = np.meshgrid(along, depth)
                x, y = (y, x) if flip else (x, y)
                at = np.stack([mark.x + x, mark.y + y, np.ones_like(x)], axis=-1) @ homography.T
                where = (at[..., :2] / at[..., 2:]).astype(np.float32)
                lines = cv2.remap(grey, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
                profile = lines.astype(float).mean(axis=1)
                contrast = abs(profile[:6].mean() - profile[-6:].mean())
                slope = np.abs(profile[3:] - profile[:-3]).max() / (across[3] - across[0])
                widths.append(contrast / max(slope * SLOPE, 1e-9))
    return float(np.median(widths))


def edge_width(cv2: Any, grey: np.ndarray) -> float:
    """The standard deviation of the blur in pixels, estimated at the strongest edges.

    - `grey` [h, w]: uint8
    """
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1)
    dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    slope = np.hypot(dx, dy)
    around = np.ones((max(3, max(grey.shape) // 30),) * 2, np.uint8)
    contrast = cv2.dilate(smooth, around) - cv2.erode(smooth, around)
    strongest = slope >= np.quantile(slope, 0.999)
    return float(np.median(contrast[strongest] / np.maximum(slope[strongest], 1e-6)) / SLOPE)
