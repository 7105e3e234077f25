"""Images whose shape tells one class and whose texture another, and which of them a model follows.

A figure is what differs from the border of its image: good for one object on an even ground, such
as a digit or a garment, and crude for photographs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.types import Images, Keys, Labels

CONFLICTS = ("phase", "filled")
"""How a shape and a texture are joined."""
FIGURE = 0.3
"""A pixel belongs to the figure from this share of the image's largest difference to its border."""
TEXTURED = 4
"""Texture is taken from the 1 / TEXTURED of the patches that differ most from the border."""


def silhouettes(images: Images) -> Images:
    """The figure of each image in white on black, [n, c, h, w].

    The figure is where the mean over channels differs from the median of the border by at least
    0.3 of the largest such difference.
    """
    _check(images, "images")
    unlike = _unlike_border(images)
    largest = unlike.flatten(1).amax(dim=1)[:, None, None, None]
    return ((unlike >= FIGURE * largest) & (unlike > 0)).to(images).expand_as(images).contiguous()


def textures(images: Images, keys: Keys, *, patch: int) -> Images:
    """Each image without its shape: tiled with patches of its figure, drawn at random.

    They are drawn with replacement from the quarter of its patches, on a grid, that differ most
    from its border.

    - `keys` [n]: of the draws, one a row; `patch`: side of a patch in pixels

    **Raises** ValueError for a patch that does not divide both sides of the image.
    """
    _check(images, "images")
    n, c, h, w = images.shape
    check_count(patch, "patch")
    if h % patch or w % patch:
        raise bad_value("patch", f"divide the sides of the images, {h} and {w}", patch)
    split = (n, -1, h // patch, patch, w // patch, patch)
    cut = images.reshape(split).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    unlike = _unlike_border(images).reshape(split).mean(dim=(1, 3, 5)).flatten(1)
    best = unlike.topk(max(1, unlike.shape[1] // TEXTURED), dim=1).indices
    drawn = (random.uniform(keys, (cut.shape[1],)) * best.shape[1]).long()
    chosen = best.gather(1, drawn.clamp(max=best.shape[1] - 1))
    tiles = cut[torch.arange(n)[:, None], chosen].reshape(
        n, h // patch, w // patch, c, patch, patch
    )
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


def cue_conflict(
    shape: Images, texture: Tensor, kind: str, *, keys: Keys, patch: int = 4
) -> Images:
    """Images with the shape of one image and the texture of another, [n, c, h, w] in [0, 1].

    - `shape`, `texture` [n, c, h, w] in [0, 1]
    - `kind`: "phase": the Fourier phase of the one and the amplitude of the other, cut to [0, 1];
      "filled": the silhouette of the one, filled with the `textures` of the other, on the ground of
      the first
    - `keys` [n], `patch`: of `textures`

    **Raises** ValueError for an unknown kind and images of unequal shapes.
    **Source**: Geirhos et al. 2019 (arXiv 1811.12231), section 2.
    **Differs from the paper**: its images are made by style transfer, with objects on white; these
    need no network.
    """
    _check(shape, "shape")
    if shape.shape != texture.shape:
        raise bad_value(
            "texture", f"have the shape of `shape`, {tuple(shape.shape)}", texture.shape
        )
    if kind not in CONFLICTS:
        raise unknown_name("kind", kind, CONFLICTS)
    if kind == "filled":
        figure, ground = silhouettes(shape), _border(shape).median(dim=2).values[..., None, None]
        return figure * textures(texture, keys, patch=patch) + (1 - figure) * ground
    waves, amplitude = torch.fft.fft2(shape), torch.fft.fft2(texture).abs()
    return torch.fft.ifft2(torch.polar(amplitude, waves.angle())).real.clamp(0, 1)


@dataclass(frozen=True)
class CueAnswers:
    """How often a model answers with the shape's class, and with the texture's, in percent.

    - `bias`: the shapes' share of the images that are answered by either; None where there are none
    """

    shape: float
    texture: float
    bias: float | None

    @property
    def either(self) -> float:
        """By either: 200 / classes for a model that guesses, whose bias then says nothing."""
        return self.shape + self.texture


def shape_bias(answers: Labels, shapes: Labels, textures: Labels) -> CueAnswers:
    """Whether a model follows shape or texture where the two tell different classes.

    - `answers` [n]: the predicted classes; `shapes`, `textures` [n]: those of the two cues

    **Raises** ValueError where the cues of some image agree.
    **Source**: Geirhos et al. 2019 (arXiv 1811.12231): of images answered by shape or texture.

    >>> cues = torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 1, 1])
    >>> shape_bias(torch.tensor([0, 1, 1, 2]), *cues).bias
    33.333333333333336
    """
    agree = (shapes == textures).nonzero()
    if len(agree):
        expected = "tell another class than `shapes` for every image"
        raise bad_value("textures", expected, f"the same in row {int(agree[0])}")
    by_shape, by_texture = (percent(answers == cue) for cue in (shapes, textures))
    either = by_shape + by_texture
    return CueAnswers(by_shape, by_texture, 100 * by_shape / either if either else None)


def partners(labels: Labels, keys: Keys, *, same: bool) -> Labels:
    """For each image the row of a random other image, of the same class or of another, [n].

    **Raises** ValueError where an image has no partner.
    """
    rows = torch.arange(len(labels), device=labels.device)
    fits = (labels[:, None] == labels) == same
    fits &= rows[:, None] != rows
    alone = (~fits.any(dim=1)).nonzero()
    if len(alone):
        other = "another image of the same" if same else "an image of another"
        raise bad_value("labels", f"hold {other} class for each", f"none for row {int(alone[0])}")
    draws = random.uniform(keys, (len(labels),))
    return torch.where(fits, draws, -1).argmax(dim=1)


def _border(images: Images) -> Tensor:
    """The pixels at the border, [n, c, p]."""
    edges = images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]
    return torch.cat(edges, dim=2)


def _unlike_border(images: Images) -> Tensor:
    """How far each pixel's mean over channels is from the border's median, [n, 1, h, w]."""
    ground = _border(images).mean(dim=1).median(dim=1).values
    return (images.mean(dim=1, keepdim=True) - ground[:, None, None, None]).abs()


def _check(images: Tensor, argument: str) -> None:
    if images.ndim != 4 or 0 in images.shape or min(images.shape[2:]) < 3:
        expected = "have shape [n, channels, height, width] with sides of 3 or more"
        raise bad_value(argument, expected, f"shape {tuple(images.shape)}")
