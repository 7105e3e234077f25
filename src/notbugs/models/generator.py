"""An autoencoder: the decoder maps codes to images, the encoder images to codes."""

import math

import torch
from torch import Tensor, nn

from notbugs.core.errors import check_count, unknown_name
from notbugs.core.types import Embeddings, Images
from notbugs.models.initial import seeded
from notbugs.models.upsampling import doubled, he, padded_to

LAYERS = ("convolutional", "dense")


class ImageGenerator(nn.Module):
    """Codes [n, d] -> images [n, c, h, w] in [0, 1], and back: a variational autoencoder.

    The decoder: two dense layers to a quarter of each side, two doublings, a sigmoid. The encoder:
    two strided convolutions and two dense layers, which give the mean and the logarithm of the
    variance of each image's code. ReLU between, no norms. Any size.

    - `shape`: (channels, height, width) of the images
    - `codes`: d, the dimension of a code; `width`: channels of the last hidden layer
    - `upsample`: "resize", "transposed" or "uneven"; see `notbugs.models.upsampling`
    - `layers`: with "dense", three dense layers each way, of 16 and 8 times `width` units between
    - `seed`: of the initial weights

    **Raises** ValueError for counts below 1 and unknown `upsample` or `layers`.
    **Source**: Kingma & Welling 2013 (arXiv 1312.6114).

    >>> net = ImageGenerator((1, 7, 9), seed=0)
    >>> tuple(net.decode(torch.zeros(2, net.codes)).shape)
    (2, 1, 7, 9)
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        codes: int = 16,
        width: int = 32,
        upsample: str = "resize",
        layers: str = "convolutional",
        seed: int,
    ) -> None:
        """Makes the layers, with initial weights drawn by the seed."""
        super().__init__()
        check_count(codes, "codes")
        check_count(width, "width")
        if layers not in LAYERS:
            raise unknown_name("layers", layers, LAYERS)
        self.shape, self.codes, self.channels, self.upsample = shape, codes, width, upsample
        channels, height, wide = shape
        self.layers, self.small = layers, (-(-height // 4), -(-wide // 4))
        with seeded(seed, "generator"):
            self.to_codes = nn.Linear(8 * width, 2 * codes)
            if layers == "dense":
                self._dense(channels, codes, width)
            else:
                self._convolutional(channels, codes, width, upsample)
            he(self)
            with torch.no_grad():
                self.to_codes.weight.mul_(0.1)  # codes begin near the prior

    def _convolutional(self, channels: int, codes: int, w: int, upsample: str) -> None:
        cells = self.small[0] * self.small[1]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, w, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * w * cells, 8 * w),
            nn.ReLU(),
        )
        # Without a hidden layer here, an image would be a sum of blobs, one per code entry.
        self.dense = nn.Sequential(
            nn.Linear(codes, 8 * w),
            nn.ReLU(),
            nn.Linear(8 * w, 2 * w * cells),
            nn.Unflatten(1, (2 * w, *self.small)),
        )
        self.decoder = nn.Sequential(
            nn.ReLU(),
            *doubled(2 * w, w, upsample),
            nn.ReLU(),
            *doubled(w, channels, upsample),
            nn.Sigmoid(),
        )

    def _dense(self, channels: int, codes: int, w: int) -> None:
        padded = (channels, 4 * self.small[0], 4 * self.small[1])
        pixels = math.prod(padded)
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, 16 * w),
            nn.ReLU(),
            nn.Linear(16 * w, 8 * w),
            nn.ReLU(),
        )
        self.dense = nn.Sequential(nn.Linear(codes, 8 * w), nn.ReLU(), nn.Linear(8 * w, 16 * w))
        self.decoder = nn.Sequential(
            nn.ReLU(), nn.Linear(16 * w, pixels), nn.Unflatten(1, padded), nn.Sigmoid()
        )

    @property
    def width(self) -> int:
        """d, the dimension of a code."""
        return self.codes

    @property
    def facts(self) -> dict[str, object]:
        """The arguments to make the same net again, without its weights."""
        return {
            "shape": list(self.shape),
            "codes": self.codes,
            "width": self.channels,
            "upsample": self.upsample,
            "layers": self.layers,
        }

    def decode(self, code: Embeddings) -> Images:
        """The images of codes [n, d]."""
        _, h, w = self.shape
        return self.decoder(self.dense(code))[..., :h, :w]

    def code(self, x: Images) -> Embeddings:
        """The means of the codes of images, [n, d]."""
        return self.encode(x)[0]

    def encode(self, x: Images) -> tuple[Tensor, Tensor]:
        """The mean and the logarithm of the variance of the codes of images, [n, d] each."""
        mean, log_variance = self.to_codes(self.encoder(padded_to(x, 4))).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructs the images from the means of their codes."""
        return self.decode(self.code(x))
