"""A denoising autoencoder: noisy images in, clean ones out, all of one shape."""

import torch
from torch import Tensor, nn

from notbugs.core.errors import check_count
from notbugs.models.initial import seeded
from notbugs.models.upsampling import doubled, he, padded_to


class Denoiser(nn.Module):
    """Images [n, c, h, w] with noise -> images [n, c, h, w] in [0, 1] without.

    Two halvings by strided convolutions, one convolution in the middle, two doublings by
    resizing and convolving, ReLU between, no norms, skip connections between maps of one size.
    The output is added to the input and clipped. Any size: odd sides are padded by repeating
    the edge, and cropped again.

    - `shape`: (channels, height, width) of the images; `width`: channels of the first layer
    - `seed`: of the initial weights

    **Source**: Vincent et al. 2008 for the idea; the residual form is that of Zhang et al. 2017
    (arXiv 1608.03981), the skip connections those of Ronneberger et al. 2015 (arXiv 1505.04597).

    >>> net = Denoiser((1, 7, 9), seed=0)
    >>> tuple(net(torch.rand(2, 1, 7, 9)).shape)
    (2, 1, 7, 9)
    """

    def __init__(self, shape: tuple[int, int, int], *, width: int = 16, seed: int) -> None:
        """Makes the layers, with initial weights drawn by the seed."""
        super().__init__()
        check_count(width, "width")
        self.shape, self.width = shape, width
        w, channels = width, shape[0]
        with seeded(seed, "denoiser"):
            self.whole = nn.Sequential(nn.Conv2d(channels, w, 3, padding=1), nn.ReLU())
            self.halved = nn.Sequential(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1), nn.ReLU())
            self.middle = nn.Sequential(
                nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(4 * w, 4 * w, 3, padding=1),
                nn.ReLU(),
                *doubled(4 * w, 2 * w, "resize"),
                nn.ReLU(),
            )
            self.back = nn.Sequential(*doubled(4 * w, w, "resize"), nn.ReLU())
            self.change = nn.Conv2d(2 * w, channels, 3, padding=1)
            he(self)
            nn.init.zeros_(self.change.weight)  # initially the identity

    def forward(self, x: Tensor) -> Tensor:
        """The images without noise, [n, c, h, w]."""
        return self.reconstructed(x).clamp(0, 1)

    @property
    def facts(self) -> dict[str, object]:
        """The arguments to make the same net again, without its weights."""
        return {"shape": list(self.shape), "width": self.width}

    def reconstructed(self, x: Tensor) -> Tensor:
        """The same without clipping, which would stop gradients in training."""
        h, w = x.shape[-2:]
        whole = self.whole(padded_to(x, 4))
        half = self.halved(whole)
        back = self.back(torch.cat([self.middle(half), half], dim=1))
        return x + self.change(torch.cat([back, whole], dim=1))[..., :h, :w]
