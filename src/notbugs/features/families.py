"""Features that need no trained model: cosines, and the eigenfeatures of a kernel."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.features.usefulness import Features, pixel_features, standardised
from notbugs.theory import tangent_kernel


def cosine_features(data: ImageData) -> Features:
    """The coefficients of a discrete cosine transform (DCT-II, orthonormal) as linear features.

    One a channel, row and column, as the pixels are numbered, by `cosine_frequencies`.

    **Raises** ValueError where no feature varies.
    """
    channels, height, width = data.shape
    waves = torch.kron(cosines(height), cosines(width))
    return pixel_features(data, directions=torch.kron(torch.eye(channels), waves))


def cosine_frequencies(shape: tuple[int, int, int]) -> Float[Tensor, " d"]:
    """The frequency of each of all `cosine_features`, cycles a pixel, [c * h * w]."""
    channels, *sides = shape
    rows, columns = (torch.arange(side) / (2 * side) for side in sides)
    return (rows[:, None].square() + columns.square()).sqrt().flatten().repeat(channels)


def cosines(side: int) -> Float[Tensor, "s s"]:
    """The orthonormal cosine waves (DCT-II) of a line of pixels, [frequency, place]."""
    steps = torch.arange(side).double()
    waves = (math.pi / side * steps[:, None] * (steps + 0.5)).cos() * (2 / side) ** 0.5
    waves[0] /= 2**0.5
    return waves.float()


@final
@dataclass(frozen=True, eq=False)
class _Kernel:
    """Reads the kernel of images with given points."""

    points: Float[Tensor, "m d"]
    depth: int

    def __call__(self, x: Images) -> Float[Tensor, "n m"]:
        return tangent_kernel(x.flatten(1), self.points.to(x), depth=self.depth)


def kernel_features(
    data: ImageData,
    *,
    components: int = 30,
    depth: int = 2,
    most: int = 1000,
    device: torch.device | str = "cpu",
) -> Features:
    """Eigenfeatures of an infinitely wide net's tangent kernel, those of large eigenvalues first.

    f_j(x) = sum_i u_ij k(x, x_i), u_j an eigenvector of the kernel of the training images, centred:
    what the net learns first, and last.

    - `components`: how many; `depth`: hidden layers of the net, see `tangent_kernel`
    - `most`: training images x_i, the first ones, which must come in no order of classes
    - `device`: where the kernel is computed

    **Raises** ValueError for counts below 1, and more components than images.
    **Source**: Tsilivis & Kempe 2022 (arXiv 2210.05577), section 3.
    **Differs from the source**: eigenvectors of the centred kernel, so that no feature is the mean;
    and features stand alone, without the weight that labels give them in a regression.
    """
    check_count(components, "components")
    check_count(most, "most", 2)
    count = min(most, len(data))
    if components >= count:
        raise bad_value("components", f"be below the {count} images", components)
    points = data.pixels(slice(0, count)).flatten(1)
    kernel = tangent_kernel(points.double(), points.double(), depth=depth)
    middle = torch.eye(count, dtype=torch.float64) - 1 / count
    vectors = torch.linalg.eigh(middle @ kernel @ middle)[1]
    directions = vectors.T.flip(0)[:components]
    like = torch.zeros((), device=device)
    return standardised(_Kernel(points.to(device), depth), False, like, data, directions)
