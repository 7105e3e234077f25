"""The Fourier parameterisation of images, with decorrelated colours."""

import math
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_images
from notbugs.core.types import Images, Theta
from notbugs.engine.parameterize import AbstractParameterization

ColorRoot: TypeAlias = tuple[tuple[float, ...], ...]
"""A square root [c][c] of the channels' covariance, as floats so that it can be printed."""

FLOOR = 1e-3
"""Smallest standard deviation of a colour direction, as a share of the largest."""


@final
@dataclass(frozen=True)
class Fourier(AbstractParameterization):
    """x = sigmoid(C W theta): theta [n, c, h, w] are coefficients, one per frequency.

    W scales the coefficient of frequency f (cycles per pixel) by
    1 / max(f, 1 / max(h, w))^`decay` and applies the inverse transform; C mixes the channels.
    Scales have a root mean square of 1, so that standard normal variables give logits of
    pixels of variance about 1 at any image size. Pixels always lie in [0, 1].

    - `decay`: 1 for the 1/f spectrum of natural images; 0 for equal scales
    - `colors` [c][c]: a square root of the channels' covariance, so that steps are taken
      in decorrelated colours (`color_root` measures it); None: each channel separately
    - `inset`: a pixel at 0 or 1 would never move, so `encode` multiplies 2x - 1 by
      1 - `inset`; the decoded image is within `inset` / 2 of the original

    Any size, odd ones too, and any number of channels.

    **Raises** ValueError for a negative decay, an inset outside [1e-6, 0.5), colours that
    are not square or not invertible, or (when used) differ from the image in the number of
    channels.
    **Source**: Olah, Mordvintsev & Schubert 2017 ("Feature Visualization", Distill),
    "Preconditioning and Parameterization".
    **Differs from the paper**: the Hartley transform replaces the Fourier transform: it has
    the sum and difference of each real and imaginary part, as many numbers as pixels; scales
    are normalised as above, which replaces the published code's fixed divisor of 4.

    >>> theta = torch.zeros(2, 3, 5, 7)
    >>> float(Fourier().decode(theta).max())
    0.5
    """

    decay: float = 1.0
    colors: ColorRoot | None = None
    inset: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 <= self.decay < math.inf:
            raise bad_value("decay", "be a finite number of at least 0", self.decay)
        if not 1e-6 <= self.inset < 0.5:
            raise bad_value("inset", "lie in [1e-6, 0.5)", self.inset)
        if self.colors is not None:
            _check_root(self.colors)

    def encode(self, x: Images) -> Theta:
        """The variables of `x`; half precision is raised to float32."""
        x = x.float() if x.itemsize < 4 else x
        logits = torch.logit(((2 * x - 1).clamp(-1, 1) * (1 - self.inset) + 1) / 2)
        if self.colors is not None:
            logits = _mixed(logits, torch.linalg.inv(self._root(logits)))
        return hartley(logits) / self._scale(logits)

    def decode(self, theta: Theta) -> Images:
        logits = hartley(theta * self._scale(theta))
        if self.colors is not None:
            logits = _mixed(logits, self._root(logits))
        return torch.sigmoid(logits)

    def _scale(self, like: Tensor) -> Tensor:
        """The weight of each frequency, [h, w], with a root mean square of 1."""
        h, w = like.shape[-2:]
        down = torch.fft.fftfreq(h, dtype=torch.float64, device=like.device)
        across = torch.fft.fftfreq(w, dtype=torch.float64, device=like.device)
        f = torch.hypot(down[:, None], across).clamp(min=1 / max(h, w))
        scale = f.pow(-self.decay)
        return (scale / scale.square().mean().sqrt()).to(like.dtype)

    def _root(self, like: Tensor) -> Tensor:
        root = torch.tensor(self.colors, dtype=like.dtype, device=like.device)
        if len(root) != like.shape[1]:
            raise bad_value(
                "colors",
                f"be of {like.shape[1]} channels, as the images are",
                f"{len(root)} channels",
                "Measure it on such images with `color_root`.",
            )
        return root


def hartley(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The orthonormal Hartley transform of the last two dimensions: its own inverse.

    y[u, v] = sum over i, j of x[i, j] cas(2 pi (u i / h + v j / w)) / sqrt(h w), where
    cas = cos + sin: the real part of the Fourier transform minus its imaginary part.
    """
    transform = torch.fft.fft2(x, norm="ortho")
    return transform.real - transform.imag


def color_root(images: Images) -> ColorRoot:
    """The symmetric square root [c][c] of the covariance of the channels of `images`.

    - `images` [n, c, h, w] in [0, 1]; every pixel is one sample

    Scaled so that the mean variance of the channels is 1. Directions of (almost) no variance,
    as in grey images of three channels, get a thousandth of the largest standard deviation.

    **Raises** ValueError for images that are not in [0, 1], or are all of one colour.
    """
    check_images(images, "images")
    return root_of(images)


def root_of(values: Float[Tensor, "n c h w"]) -> ColorRoot:
    """As `color_root`, of any values [n, c, h, w]."""
    samples = values.detach().double().movedim(1, 0).flatten(1)
    samples = samples - samples.mean(dim=1, keepdim=True)
    return root_of_covariance(samples @ samples.T / samples.shape[1])


def root_of_covariance(covariance: Float[Tensor, "c c"]) -> ColorRoot:
    """The root of the colours' covariance, of mean variance 1; raises as `color_root`."""
    spread, axes = torch.linalg.eigh(covariance)
    spread = spread.clamp(min=0).sqrt()
    if not float(spread[-1]) > 1e-6:
        raise bad_value("images", "differ in colour from pixel to pixel", "one colour only")
    spread = spread.clamp(min=FLOOR * float(spread[-1]))
    root = (axes * spread) @ axes.T
    root = root / (root.square().sum() / len(root)).sqrt()
    return tuple(tuple(row) for row in root.tolist())


def _mixed(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("dc,nchw->ndhw", matrix, x)


def _check_root(colors: ColorRoot) -> None:
    if not colors or any(len(row) != len(colors) for row in colors):
        raise bad_value(
            "colors",
            "be square: a row and a column for each channel",
            f"rows of {[len(row) for row in colors]} entries",
        )
    root = torch.tensor(colors, dtype=torch.float64)
    sizes = torch.linalg.svdvals(root) if bool(root.isfinite().all()) else torch.zeros(1)
    if not float(sizes[-1]) > 1e-6 * float(sizes[0]):
        raise bad_value("colors", "be finite and have an inverse", colors, "Use `color_root`.")
