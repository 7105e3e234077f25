"""Finds registration marks in a photograph, to a tenth of a pixel, and how blurred they are."""

from collections import Counter
from typing import Any

import numpy as np

from notbugs.photo.packages import opencv
from notbugs.photo.printing import dictionary

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
"""The corners of a mark or cell of side 1, clockwise from the upper left."""
DEPTHS = np.linspace(-1 / 7, 1 / 7, 41)
"""Across a side of a mark: from the white around it into its black frame, a 7th of it wide."""
STEP = DEPTHS[1] - DEPTHS[0]
PLACES = np.linspace(0.12, 0.88, 32)
"""Along a side of a mark, without its corners."""
GAMMA = 2.2
"""Of cameras: a value v stands for light of v ** 2.2."""
ROUNDS = 2
"""The second looks where the first has found the sides."""
SLOPE = (2 * np.pi) ** 0.5
"""An edge of contrast c, blurred by a Gaussian of s, has the slope c / (s * this) at its middle."""


def projected(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Where a homography puts points [..., 2]; [..., 2]."""
    ends = points @ homography[:, :2].T + homography[:, 2]
    return ends[..., :2] / ends[..., 2:]


def uncertainty(
    at: np.ndarray, homography: np.ndarray, error: float, points: np.ndarray
) -> np.ndarray:
    """Standard deviations of where a fitted homography puts points [n, 2], to first order; [n].

    - `at` [m, 2]: the points that it was fitted to by least squares
    - `error`: their root mean square distance from where it puts them
    """
    slopes = _slopes(at, homography)
    variance = error**2 * len(at) / (2 * len(at) - 8)  # of a coordinate; 8 are spent on the fit
    left = _slopes(points, homography) @ np.linalg.pinv(slopes, rcond=1e-12)
    return np.sqrt(variance * (left**2).sum(axis=1).reshape(2, -1).sum(axis=0))


def _slopes(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """How x, then y, of projected points [n, 2] change with the homography's entries; [2n, 8]."""
    flat = np.column_stack([points, np.ones(len(points))])
    x, y = projected(points, homography).T[..., None]
    none = np.zeros_like(flat)
    rows = [[flat, none, -x * points], [none, flat, -y * points]]
    return np.concatenate([np.hstack(row) / (flat @ homography[2])[:, None] for row in rows])


def found_marks(grey: np.ndarray) -> dict[int, tuple[np.ndarray, float]]:
    """Every mark that is seen once, by its id: its corners [4, 2], and its blur.

    Corners are clockwise from the mark's upper left. The blur is a Gaussian's standard deviation
    as a share of the mark's side.

    - `grey` [h, w]: the photograph, uint8
    """
    cv2 = opencv()
    parameters = cv2.aruco.DetectorParameters()
    # Windows of up to a 20th of the photograph: a blurred edge has no contrast in small ones.
    parameters.adaptiveThreshWinSizeMax = max(23, max(grey.shape) // 20)
    parameters.adaptiveThreshWinSizeStep = (parameters.adaptiveThreshWinSizeMax - 3) // 3
    # Only the middle of a mark's squares is read, where a blur of a third of them does not reach.
    parameters.perspectiveRemovePixelPerCell = 8
    parameters.perspectiveRemoveIgnoredMarginPerCell = 0.33
    corners, ids, _ = cv2.aruco.ArucoDetector(dictionary(), parameters).detectMarkers(grey)
    seen = [] if ids is None else [int(one) for one in np.ravel(ids)]
    often = Counter(seen)
    pairs = zip(seen, corners, strict=True)
    # A blurred edge lies where the light is half, not where the response curve is.
    light = (grey / np.float32(255)) ** np.float32(GAMMA)
    return {one: _refined(cv2, light, at.reshape(4, 2)) for one, at in pairs if often[one] == 1}


def _refined(cv2: Any, seen: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, float]:
    """The corners where straight lines along the sides of a mark meet, and the blur."""
    blurs: list[float] = []
    for _ in range(ROUNDS):
        to_photo = cv2.getPerspectiveTransform(SQUARE.astype(np.float32), np.float32(corners))
        lines: list[np.ndarray] = []
        blurs.clear()
        for one, other in zip(SQUARE, np.roll(SQUARE, -1, axis=0), strict=True):
            inward = np.array([-(other - one)[1], (other - one)[0]])
            at = one + PLACES[:, None, None] * (other - one) + DEPTHS[:, None] * inward
            where = projected(at, to_photo).astype(np.float32)
            x, y, edge = where[..., 0], where[..., 1], cv2.BORDER_REPLICATE
            light = cv2.remap(seen, x, y, cv2.INTER_LINEAR, borderMode=edge).astype(float)
            white, black = light[:, :8].mean(axis=1), light.min(axis=1)
            # The first place, from outside, where the light has fallen to half.
            level = (white + black)[:, None] / 2
            first = np.maximum((light < level).argmax(axis=1), 1)[:, None]
            before, after = (np.take_along_axis(light, first - i, 1) for i in (1, 0))
            part = (before - level) / np.maximum(before - after, 1e-9)
            depths = (DEPTHS[first - 1] + STEP * part.clip(0, 1))[:, 0]
            slant, depth = np.polyfit(PLACES, depths, 1)
            start = np.append(one + depth * inward, 1.0)
            lines.append(np.cross(start, np.append(other + (slant + depth) * inward, 1.0)))
            profile = light.mean(axis=0)
            slope = (profile[:-1] - profile[1:]).max() / STEP
            blurs.append((profile[:8].mean() - profile.min()) / max(slope * SLOPE, 1e-9))
        meets = [np.cross(lines[i - 1], lines[i]) for i in range(4)]
        corners = projected(np.array([m[:2] / m[2] for m in meets]), to_photo)
    return corners, float(np.median(blurs))


def edge_width(grey: np.ndarray) -> float:
    """The standard deviation of the blur in pixels, estimated at the strongest edges.

    - `grey` [h, w]: uint8
    """
    cv2 = opencv()
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1)
    dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    slope = np.hypot(dx, dy)
    around = np.ones((max(3, max(grey.shape) // 30),) * 2, np.uint8)
    contrast = cv2.dilate(smooth, around) - cv2.erode(smooth, around)
    strongest = slope >= np.quantile(slope, 0.999)
    return float(np.median(contrast[strongest] / np.maximum(slope[strongest], 1e-6)) / SLOPE)
