"""A simulated print and camera with known parameters."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from notbugs.core import random
from notbugs.core.errors import bad_value, check_positive
from notbugs.photo.marks import GAMMA, SQUARE, projected
from notbugs.photo.packages import opencv

BORDER = 0.05
"""White space around the page in the photograph, as a share of its longer side."""
Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """How a page is printed and photographed; the default changes next to nothing.

    Pixels of the page are values v of a reflectance of v ** 2.2.

    Print: `ink` and `white` are the reflectances of black ink and of the paper by colour, 0..1;
    `tone` an exponent of the reflectance (above 1: dots spread and darken); `dots` the printer's
    dots per pixel of the page (at most 1).

    Place: `roll`, `tilt` and `turn` are the camera's angles in degrees about its axis, a horizontal
    and a vertical one; `distance` that from the page in longer sides of the page; `scale` the
    photograph's pixels per pixel of the page, at the page's centre. A cell of `cell_mm` takes
    scale * dpi * cell_mm / 25.4 pixels.

    Light: `slope` is the share of light that is lost from one side of the photograph to the other,
    in the direction `slope_angle` in degrees; `vignetting` the share lost at the corners.

    Camera: `blur` is a Gaussian's standard deviation in pixels; `exposure` a factor; `balance` one
    for each colour; `shot` and `read` the noise's standard deviations at full light and without
    light; `response` the exponent of the response curve; `quality` that of JPEG (None: not
    compressed). `seed` determines the noise.

    **Raises** ValueError for an angle of 80 degrees or more, a size that is not positive, a share
    outside [0, 1], negative noise or blur, and a quality outside 1..100.
    """

    ink: Colours = (0.0, 0.0, 0.0)
    white: Colours = (1.0, 1.0, 1.0)
    tone: float = 1.0
    dots: float = 1.0
    roll: float = 0.0
    tilt: float = 0.0
    turn: float = 0.0
    distance: float = 2.0
    scale: float = 1.0
    slope: float = 0.0
    slope_angle: float = 0.0
    vignetting: float = 0.0
    blur: float = 0.0
    exposure: float = 1.0
    balance: Colours = (1.0, 1.0, 1.0)
    shot: float = 0.0
    read: float = 0.0
    response: float = 1 / GAMMA
    quality: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tone", "dots", "scale", "exposure", "response"):
            check_positive(getattr(self, name), name)
        for name in ("slope", "vignetting"):
            if not 0 <= getattr(self, name) <= 1:
                raise bad_value(name, "lie in [0, 1]", getattr(self, name))
        for name in ("blur", "shot", "read"):
            if not 0 <= getattr(self, name) < math.inf:
                raise bad_value(name, "be a finite number of at least 0", getattr(self, name))
        for name in ("roll", "slope_angle"):
            if not math.isfinite(getattr(self, name)):
                raise bad_value(name, "be a number of degrees", getattr(self, name))
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise bad_value("quality", "lie in 1..100, or be None", self.quality)
        for name in ("tilt", "turn"):
            if not abs(getattr(self, name)) < 80:
                raise bad_value(name, "be less than 80 degrees", getattr(self, name))
        if not self.distance >= 1:
            raise bad_value("distance", "be at least 1", self.distance, "Change `scale` instead.")
        if self.dots > 1:
            raise bad_value("dots", "be at most 1", self.dots, "Render the page at a higher dpi.")


def photograph(
    page: UInt8[np.ndarray, "h w 3"], camera: Camera
) -> tuple[UInt8[np.ndarray, "photo_h photo_w 3"], Float[np.ndarray, "3 3"]]:
    """A simulated photograph of a page, and the homography from the page's pixels to its own.

    Coordinates are (x, y), and whole at the centres of pixels, as in OpenCV. The whole page is in
    the photograph, on a grey table.

    - `page`: as `page_pixels` renders it

    **Raises** NotbugsError where `opencv-python-headless` is not installed.
    """
    cv2 = opencv()
    homography, size = _homography(page.shape[1], page.shape[0], camera)
    paper = _printed(cv2, page, camera)
    if camera.scale < 1:  # what a pixel of the photograph averages over
        paper = _blurred(cv2, paper, 0.4 * (camera.scale**-2 - 1) ** 0.5)
    seen = cv2.warpPerspective(
        paper, homography, size, flags=cv2.INTER_LINEAR, borderValue=(0.15, 0.15, 0.15)
    )
    light = _blurred(cv2, seen * _light(size, camera)[..., None], camera.blur)
    light = light * np.float32(camera.exposure) * np.array(camera.balance, np.float32)
    light += np.sqrt(light) * camera.shot * _normal(light.shape, camera.seed, "shot")
    light += camera.read * _normal(light.shape, camera.seed, "read")
    photo = (255 * light.clip(0, 1) ** camera.response).round().astype(np.uint8)
    if camera.quality is not None:
        _, content = cv2.imencode(".jpg", photo[..., ::-1], [1, camera.quality])
        photo = cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1].copy()
    return photo, homography


def _homography(width: int, height: int, camera: Camera) -> tuple[np.ndarray, tuple[int, int]]:
    """The homography that shows the whole page, and the photograph's width and height."""
    roll, tilt, turn = np.radians([camera.roll, camera.tilt, camera.turn])
    cos, sin = np.cos, np.sin
    about_z = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cos(tilt), -sin(tilt)], [0, sin(tilt), cos(tilt)]])
    about_y = np.array([[cos(turn), 0, sin(turn)], [0, 1, 0], [-sin(turn), 0, cos(turn)]])
    plane = (about_z @ about_x @ about_y)[:, :2]  # where the page's axes point
    far = camera.distance * max(width, height)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    place = np.array([0, 0, far]) - plane @ middle
    focal = np.diag([camera.scale * far, camera.scale * far, 1.0])
    homography = focal @ np.column_stack([plane, place])
    ends = projected(SQUARE * [width, height] - 0.5, homography)
    low, high = ends.min(axis=0), ends.max(axis=0)
    border = BORDER * (high - low).max()
    shift = np.eye(3)
    shift[:2, 2] = border - low
    wide, tall = (int(np.ceil(side)) for side in high - low + 2 * border)
    homography = shift @ homography
    return homography / homography[2, 2], (wide, tall)


def _printed(cv2: Any, page: np.ndarray, camera: Camera) -> np.ndarray:
    """The reflectance of the printed page, float32."""
    value = page.astype(np.float32) / 255
    ink, white = np.array(camera.ink, np.float32), np.array(camera.white, np.float32)
    value = ink + (white - ink) * value ** (GAMMA * camera.tone)
    if camera.dots < 1:
        height, width = page.shape[:2]
        dots = (max(1, round(width * camera.dots)), max(1, round(height * camera.dots)))
        value = cv2.resize(value, dots, interpolation=cv2.INTER_AREA)
        value = cv2.resize(value, (width, height), interpolation=cv2.INTER_LINEAR)
    return value


def _light(size: tuple[int, int], camera: Camera) -> np.ndarray:
    """The light at every pixel, at most 1, float32."""
    x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    angle = np.radians(camera.slope_angle)
    along = (np.cos(angle) * x[None] + np.sin(angle) * y[:, None]) / 2**0.5
    slope = 1 - camera.slope * (1 + along) / 2
    corners = (x[None] ** 2 + y[:, None] ** 2) / 2
    return (slope * (1 - camera.vignetting * corners)).astype(np.float32)


def _blurred(cv2: Any, image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.05 else image


def _normal(shape: tuple[int, ...], seed: int, purpose: str) -> np.ndarray:
    return torch.randn(shape, generator=random.generator(seed, "camera", purpose)).numpy()
