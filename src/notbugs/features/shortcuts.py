"""Planted shortcuts: a faint mark that tells the class of a real image, of a given L2 norm."""

import math
from dataclasses import asdict, dataclass, replace

import torch

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_labels, check_positive, unknown_name
from notbugs.core.types import Images, Labels
from notbugs.data import ImageData
from notbugs.features.families import cosines

KINDS = ("patch", "shading", "fine")
"""A bright square whose place tells the class; a wave of low, or of high frequency, which does."""
CONTRAST = 0.5


@dataclass(frozen=True)
class Shortcut:
    """One mark for each class, added to images of halved contrast.

    All marks have the same L2 norm and any two are orthogonal, so that kinds differ in shape and
    frequency alone: a change of norm / sqrt(2) moves an image to the middle between two marks,
    whichever they are, and one of sqrt(2) * norm turns one into another.

    - `kind`: one of `KINDS`: "patch", a square of an eighth of the side (at least 2 pixels), as far
      from the middle as may be; "shading", one of the lowest cosine waves, such as a slope of
      brightness; "fine", one of the highest
    - `norm`: L2, in pixel units of [0, 1] of the image with halved contrast

    **Raises** ValueError for an unknown kind and a norm that is not above 0.
    **Source**: shortcuts as Geirhos et al. 2020 (arXiv 2004.07780) define them: rules that hold on
    images of the same distribution and on no others. Kinds and norms are ours.
    """

    kind: str = "patch"
    norm: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind", self.kind, KINDS)
        check_positive(self.norm, "norm")

    def marks(self, classes: int, shape: tuple[int, int, int]) -> Images:
        """The mark of each class, [classes, c, h, w], the same in all channels.

        **Raises** ValueError for more classes than there are places or waves.
        """
        channels, height, width = shape
        made = _patches(height, width) if self.kind == "patch" else _waves(height, width)
        if len(made) <= classes:
            most = f"at most {len(made) - 1} on images of {width} by {height} pixels"
            raise bad_value("classes", f"be {most}", classes, "Use larger images.")
        chosen = made[-classes:] if self.kind == "fine" else made[:classes]
        chosen = chosen[:, None].expand(-1, channels, -1, -1)
        return self.norm * chosen / rows.expand(chosen.flatten(1).norm(dim=1), chosen)

    def planted(self, data: ImageData, pointed: Labels) -> ImageData:
        """The images of halved contrast, each with the mark of a class; labels stay.

        - `pointed` [n]: the class that the mark of each image points to

        Columns: "pointed", and "distance": the L2 norm of what the mark changed. It is smaller than
        `norm` where a pixel would leave [0, 1].
        """
        check_labels(pointed, rows=len(data), classes=data.classes, argument="pointed")
        x = halved(data.pixels())
        images = (x + self.marks(data.classes, data.shape).to(x)[pointed]).clamp(0, 1)
        return replace(
            data,
            images=images,
            name=f"{data.name} with {self.kind}",
            provenance={**data.provenance, "shortcut": asdict(self)},
            columns={
                **data.columns,
                "pointed": pointed,
                "distance": (images - x).flatten(1).norm(dim=1),
            },
        )


def halved(images: Images) -> Images:
    """Images of half the contrast around mid grey, in [1/4, 3/4], so that marks have room."""
    return 0.5 + CONTRAST * (images - 0.5)


def _patches(height: int, width: int) -> Images:
    """A square at each place of a grid, those farthest from the middle first, [m, h, w]."""
    side = max(2, min(height, width) // 8)
    places = [(i, j) for i in range(height // side) for j in range(width // side)]
    middle = (height / side - 1) / 2, (width / side - 1) / 2
    places.sort(key=lambda place: (-math.dist(place, middle), place))
    made = torch.zeros(len(places), height, width)
    for mark, (i, j) in zip(made, places, strict=True):
        mark[i * side : (i + 1) * side, j * side : (j + 1) * side] = 1
    return made


def _waves(height: int, width: int) -> Images:
    """All cosine waves but the constant one, by frequency, [h * w - 1, h, w]."""
    waves = torch.kron(cosines(height), cosines(width)).reshape(-1, height, width)
    down, across = torch.arange(height) / height, torch.arange(width) / width
    frequency = (down[:, None].square() + across.square()).flatten()
    return waves[frequency.argsort(stable=True)[1:]]
