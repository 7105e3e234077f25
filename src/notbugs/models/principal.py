"""Principal components as an autoencoder: linear both ways."""

import math

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Embeddings, Images


class PrincipalComponents(nn.Module):
    """Codes [n, d] of images are their coordinates along d orthonormal directions; and back.

    Made by `principal_components`. Beside an encoder that was trained, it is what no learning and
    no nonlinearity can hold of an image in as many numbers.

    - `shape`: (channels, height, width) of the images; `codes`: d
    - `center` [pixels], `basis` [d, pixels]: the mean image and the directions, zero until fitted

    **Raises** ValueError for counts below 1 and more codes than pixels.
    """

    center: Tensor
    basis: Tensor

    def __init__(self, shape: tuple[int, int, int], *, codes: int, seed: int = 0) -> None:
        """Makes it without directions; nothing is drawn by the seed."""
        super().__init__()
        pixels = math.prod(shape)
        check_count(codes, "codes")
        if codes > pixels:
            raise bad_value("codes", f"be at most the number of pixels, {pixels}", codes)
        self.shape, self.codes = shape, codes
        self.register_buffer("center", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(codes, pixels))

    @property
    def width(self) -> int:
        """d, the dimension of a code."""
        return self.codes

    @property
    def facts(self) -> dict[str, object]:
        """The arguments to make the same again, without its directions."""
        return {"shape": list(self.shape), "codes": self.codes}

    def code(self, x: Images) -> Embeddings:
        """The coordinates of images, [n, d]."""
        return (x.flatten(1) - self.center) @ self.basis.T

    def decode(self, code: Embeddings) -> Images:
        """The images of coordinates [n, d]; pixels may leave [0, 1]."""
        return (code @ self.basis + self.center).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """The projection of images."""
        return self.decode(self.code(x))
