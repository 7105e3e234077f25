"""Stars and moons: synthetic images whose place is a shortcut to their shape."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import check_count, unknown_name
from notbugs.core.types import Images, Labels
from notbugs.data.dataset import ImageData

PLACES = ("shortcut", "exchanged", "random")
"""Where shapes stand: as in training, with the classes' places exchanged, anywhere."""
QUADRANTS = ((0, 1), (1, 0)), ((0, 0), (1, 1))
"""(down, across) of the places of stars, and of moons, in halves of the image."""
POINTS = 5
INNER = 0.45
"""The radius of a star between its points, of that at its points."""
BITE, SHIFT = 0.85, 0.5
"""The radius of the disc that is cut out of a moon, and its distance, in radii of the moon."""


@dataclass(frozen=True)
class StarsAndMoons:
    """White stars (class 0) and moons (class 1) on black, each in one quadrant of the image.

    - `n`: number of images; classes come equally often (up to one)
    - `places`: "shortcut": stars at the top right or bottom left, moons at the top left or bottom
      right; "exchanged": the other way round; "random": each in any quadrant
    - `side`: height and width in pixels
    - `seed`: of labels, places, sizes, angles and offsets

    **Raises** ValueError for unknown places, fewer than two images, and a side below 12 pixels.
    **Source**: Geirhos et al. 2020 (arXiv 2004.07780), figure 2.
    **Differs from the paper**: it gives no sizes; here a shape's radius is 0.7 to 0.9 of half a
    quadrant, its angle any, its offset up to a twentieth of the image, and "random" is ours.

    >>> StarsAndMoons(n=4).make()
    ImageData('stars and moons', n=4, 1x24x24 float32, 2 classes, columns: quadrant)
    """

    n: int = 2000
    places: str = "shortcut"
    side: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.n, "n", 2)
        check_count(self.side, "side", 12, "Smaller shapes cannot be told apart.")
        if self.places not in PLACES:
            raise unknown_name("places", self.places, PLACES)

    def make(self) -> ImageData:
        """The images, float32 [n, 1, side, side], with each one's quadrant, 0..3, as a column."""
        order = torch.randperm(self.n, generator=random.generator(self.seed, "stars"))
        labels = (torch.arange(self.n) % 2)[order]
        keys = random.row_keys(self.n, self.seed, "stars-places")
        quadrant = self._quadrants(labels, keys)
        return ImageData(
            self._drawn(labels, quadrant, keys),
            labels,
            ("star", "moon"),
            "stars and moons",
            {"recipe": "stars and moons", **asdict(self)},
            {"quadrant": quadrant},
        )

    def _quadrants(self, labels: Labels, keys: Tensor) -> Labels:
        """The quadrant of each shape: 2 * (bottom half) + (right half)."""
        owner = labels if self.places == "shortcut" else 1 - labels
        if self.places == "random":
            owner = random.integers(random.fold(keys, "owner"), 2)
        which = random.integers(random.fold(keys, "which"), 2)
        down, across = torch.tensor(QUADRANTS)[owner, which].T
        return 2 * down + across

    def _drawn(self, labels: Labels, quadrant: Labels, keys: Tensor) -> Images:
        draws = random.uniform(keys, (4,))[..., None, None]
        radius = self.side / 4 * (0.7 + 0.2 * draws[:, 0])
        angle = 2 * math.pi * draws[:, 1]
        corner = torch.stack([quadrant // 2, quadrant % 2], dim=1)[..., None, None]
        center = self.side * (0.25 + 0.5 * corner + 0.1 * (draws[:, 2:] - 0.5))
        axis = torch.arange(self.side) + 0.5
        down, across = axis[:, None] - center[:, 0], axis - center[:, 1]
        along = (across * angle.cos() + down * angle.sin()) / radius
        beside = (down * angle.cos() - across * angle.sin()) / radius
        is_star = (labels == 0)[:, None, None]
        depth = torch.where(is_star, _in_star(along, beside), _in_moon(along, beside))
        # A pixel is as bright as it is covered, for an edge that is straight within it.
        return (0.5 + depth * radius).clamp(0, 1)[:, None]


def _in_star(x: Tensor, y: Tensor) -> Tensor:
    """The depth of points in a star of radius 1, negative outside: exact beside its edges."""
    sector = math.pi / POINTS
    turn = torch.atan2(y, x).remainder(2 * sector)
    turn = torch.minimum(turn, 2 * sector - turn)  # mirrored into half a point
    length = torch.hypot(x, y)
    u, v = length * turn.cos(), length * turn.sin()
    # The edge runs from the point (1, 0) to the notch at angle `sector`.
    to_u, to_v = INNER * math.cos(sector) - 1, INNER * math.sin(sector)
    return (to_v * (1 - u) + to_u * v) / math.hypot(to_u, to_v)


def _in_moon(x: Tensor, y: Tensor) -> Tensor:
    """The depth of points in a crescent: a disc of radius 1 less a smaller one beside it."""
    return torch.minimum(1 - torch.hypot(x, y), torch.hypot(x - SHIFT, y) - BITE)
