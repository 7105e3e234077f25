"""Interpolation between images in a representation and, for comparison, in pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Rows
from notbugs.engine import Solver
from notbugs.models import prepared
from notbugs.models.prepared import raised
from notbugs.representations.batches import read_all, solve
from notbugs.representations.invert import EmbeddingDistance
from notbugs.representations.inverted import check_finite, lbfgs_inversion
from notbugs.representations.reading import flat, layer_of


@dataclass(frozen=True)
class Path:
    """A path of p frames between each of n pairs of images.

    - `frames` [n, p, c, h, w]
    - `pixel_steps` [n, p - 1]: ||x_{i+1} - x_i||_2 in pixel units of [0, 1]
    - `representation_steps` [n, p - 1]: ||R(x_{i+1}) - R(x_i)||_2
    """

    frames: Tensor
    pixel_steps: Tensor
    representation_steps: Tensor

    @property
    def pixel_unevenness(self) -> Rows:
        """The longest step over the mean step in pixels, [n]; 1 is perfectly even."""
        return unevenness(self.pixel_steps)

    @property
    def representation_unevenness(self) -> Rows:
        """The longest step over the mean step in the representation, [n]."""
        return unevenness(self.representation_steps)


@dataclass(frozen=True)
class Interpolation:
    """The paths through a representation and through pixels between the same images.

    - `through`: the path whose representations lie on the line between those of the ends
    - `plain`: the path whose pixels lie on the line between those of the ends
    - `relative_error` [n, p]: ||R(x_i) - r_i|| / ||r_i|| of the first path, r_i on the line
    """

    through: Path
    plain: Path
    relative_error: Tensor


@prepared("first", "last", kind=nn.Module)
def interpolate(
    model: nn.Module,
    first: Images,
    last: Tensor,  # any shape: the check below says what is wrong
    *,
    points: int = 10,
    layer: str | None = None,
    solver: Solver | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> Interpolation:
    """Images whose representations lead evenly from those of `first` to those of `last`.

    Point i of p minimises ||R(x) - ((1 - s) R(first) + s R(last))||_2 over x in [0, 1], with
    s = i / (p - 1), from the mixture (1 - s) first + s last of pixels.

    - `first`, `last` [n, c, h, w] in [0, 1]; `points`: p, the ends included
    - `layer`, `solver`, `batch_size`: as for `invert_images`

    **Raises** ValueError for images outside [0, 1], of different shapes or of one that the
    model does not take, fewer than 3 points, and layers as `invert_images`.
    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.2.
    """
    check_count(points, "points", 3, "The ends are two of them.")
    if first.shape != last.shape:
        raise bad_value(
            "last", f"have the shape of `first`, {tuple(first.shape)}", tuple(last.shape)
        )
    read, n = flat(layer_of(model, layer)), len(first)
    share = torch.linspace(0, 1, points, dtype=first.dtype, device=first.device)
    pixels = _line(first, last, share)
    begin, end = (read_all(model, read, x, batch_size) for x in (first, last))
    check_finite(begin, "first")
    check_finite(end, "last")
    target = _line(begin, end, share).flatten(0, 1)
    solution = solve(
        model,
        EmbeddingDistance(read),
        pixels.flatten(0, 1),
        {"embedding": target},
        solver or lbfgs_inversion(),
        seed=seed,
        batch_size=batch_size,
    )
    frames = solution.x.reshape(n, points, *first.shape[1:])
    error = solution.value / target.norm(dim=1).clamp(min=1e-12)
    return Interpolation(
        path_of(model, frames, layer=layer, batch_size=batch_size),
        path_of(model, pixels, layer=layer, batch_size=batch_size),
        error.reshape(n, points),
    )


@prepared(kind=nn.Module)
def path_of(
    model: nn.Module, frames: Tensor, *, layer: str | None = None, batch_size: int = 128
) -> Path:
    """The lengths of the steps of n paths `frames` [n, p, c, h, w] of images in [0, 1].

    **Raises** ValueError for images and layers as `invert_images`.
    """
    read = flat(layer_of(model, layer))
    frames = raised(frames.flatten(0, 1), model, "frames").reshape(frames.shape)
    seen = read_all(model, read, frames.flatten(0, 1), batch_size)
    shape = (*frames.shape[:2], -1)
    pixels, representation = (
        torch.linalg.vector_norm(x.reshape(shape).diff(dim=1), dim=2) for x in (frames, seen)
    )
    return Path(frames, pixels, representation)


def unevenness(steps: Tensor) -> Rows:
    """max / mean of each row of lengths [n, p - 1], [n]; 1 where nothing moves."""
    mean = steps.mean(dim=1)
    return torch.where(mean > 0, steps.amax(dim=1) / mean.clamp(min=1e-30), 1)


def _line(first: Tensor, last: Tensor, share: Tensor) -> Tensor:
    """[n, p, ...] from `first` to `last`, both exact."""
    weight = share.to(first.dtype).reshape(1, -1, *([1] * (first.ndim - 1)))
    return torch.lerp(first[:, None], last[:, None], weight)
