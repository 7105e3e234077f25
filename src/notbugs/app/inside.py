"""What a representation keeps of an image: inversion, interpolation, and a class's feature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.models import Classifier
from notbugs.representations import (
    add_feature,
    find_attribute,
    interpolate,
    invert_images,
    lbfgs_inversion,
)

MODES = ("Invert", "Interpolate", "Add a feature")
STEPS, FRAMES = 40, 7
"""Steps of each search, and frames of an interpolation."""
SHARES = (0.5, 1.0, 2.0)
"""Of the difference between a class and the others, by which its feature is raised."""


@dataclass(frozen=True, eq=False)
class Row:
    """Images [n, c, h, w] with a caption each, and a sentence on them."""

    images: Images
    captions: tuple[str, ...]
    text: str


@dataclass(frozen=True, eq=False)
class Attributes:
    """Of each of k classes the coordinate of an embedding that tells it best from the others.

    - `units` [k]; `rises` [k]: the difference of the means
    """

    units: Tensor
    rises: Float[Tensor, " k"]


def attributes(model: Classifier, train: ImageData) -> Attributes:
    """The most predictive coordinate of each class on training images.

    **Raises** ValueError for a class of fewer than two images.
    """
    x, units, rises = train.pixels().to(model.device), list[int](), list[float]()
    for k in range(train.classes):
        own = train.labels == k
        found = find_attribute(model, x[own], x[~own])
        units.append(found.unit)
        rises.append(float(found.difference[found.unit]))
    return Attributes(torch.tensor(units), torch.tensor(rises))


def looked(
    mode: str,
    model: Classifier,
    x: Images,
    other: Images,
    added: int,
    known: Attributes,
    *,
    steps: int = STEPS,
) -> Row:
    """What a model's embedding keeps of an image [1, c, h, w].

    - `mode`: one of `MODES`; `other` [1, c, h, w]: where an interpolation ends
    - `added`: the class whose feature is added; `known`: those of all classes

    **Raises** ValueError for an unknown mode or class.
    """
    if mode == "Invert":
        return _inverted(model, x, steps)
    if mode == "Interpolate":
        return _interpolated(model, x, other, steps)
    if mode == "Add a feature":
        return _with_feature(model, x, added, known, steps)
    raise unknown_name("mode", mode, MODES)


def _inverted(model: Classifier, x: Images, steps: int) -> Row:
    found = invert_images(model, x, solver=lbfgs_inversion(steps))
    error = 100 * float(found.relative_error)
    text = (
        f"Searched from noise for the same embedding, reached to {error:.1f} %. What was found "
        f"lies {float(found.distance):.2f} from the original in L2, the noise lay "
        f"{float(found.start_distance):.2f} from it: where the two are alike, the embedding does "
        "not determine the image."
    )
    return Row(torch.cat([x, found.start, found.x]), ("original", "start", "inverted"), text)


def _interpolated(model: Classifier, x: Images, other: Images, steps: int) -> Row:
    found = interpolate(model, x, other, points=FRAMES, solver=lbfgs_inversion(steps))
    through, plain = found.through, found.plain
    text = (
        "Frames whose embeddings lie on the line between the two images'. The longest step of the "
        f"embedding is {float(through.representation_unevenness):.1f} times the mean; of the plain "
        f"mixture of pixels {float(plain.representation_unevenness):.1f} times (1 is even)."
    )
    return Row(through.frames[0], tuple(f"{i}/{FRAMES - 1}" for i in range(FRAMES)), text)


def _with_feature(model: Classifier, x: Images, added: int, known: Attributes, steps: int) -> Row:
    if not 0 <= added < len(known.units):
        raise bad_value("class", f"lie in 0..{len(known.units) - 1}", added)
    unit, rise = int(known.units[added]), float(known.rises[added])
    strengths = torch.tensor([rise * share for share in SHARES]).to(x)
    batch = x.expand(len(SHARES), -1, -1, -1)
    found = add_feature(model, batch, unit, strengths, solver=lbfgs_inversion(steps))
    moved = ", ".join(f"{float(d):.2f}" for d in found.distance)
    text = (
        f"Unit {unit} tells the class best from the others: its mean is {rise:+.2f} for it. Raised "
        f"by so many times that difference, the image moves by {moved} in L2."
    )
    captions = ("original", *(f"× {share:g}" for share in SHARES))
    return Row(torch.cat([x, found.x]), captions, text)
