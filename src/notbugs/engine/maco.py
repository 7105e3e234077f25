"""Images of a fixed magnitude spectrum: only the phases of their Fourier transform are free."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_images
from notbugs.core.types import Images, Theta
from notbugs.engine.fourier import ColorRoot, Fourier, root_of_covariance
from notbugs.engine.parameterize import AbstractParameterization

INSET = 1e-2
"""How far logits are kept from pure black and white; see `Fourier`."""
AT_ONCE = 16
"""Images whose spectra are computed at a time."""


@final
@dataclass(frozen=True)
class Spectrum:
    """The average magnitudes of images' Fourier transforms; `spectrum_of` measures them.

    They are those of the logits of the pixels, in decorrelated colours, so that `MaCo` can set
    them exactly and its pixels still lie in [0, 1].

    - `shape` (c, h, w) of the images; `values`: c * h * w numbers as float64 bytes, so that two
      spectra compare by value; `colors`: the root of the channels' covariance, or None
    """

    shape: tuple[int, int, int]
    values: bytes = field(repr=False)
    colors: ColorRoot | None = None

    def magnitudes(self, like: Tensor) -> Float[Tensor, "c h w"]:
        """The magnitudes [c, h, w] for images of the size of `like` [n, c, h, w].

        At another size than the measured one they are interpolated at each frequency (cycles per
        pixel), and scaled so that mean and variance of the logits stay.

        **Raises** ValueError for another number of channels.
        """
        if like.shape[1] != self.shape[0]:
            raise bad_value(
                "spectrum",
                f"be of {like.shape[1]} channels, as the images are",
                f"{self.shape[0]} channels",
                "Measure it on such images with `spectrum_of`.",
            )
        table = torch.from_numpy(np.frombuffer(self.values).copy()).reshape(self.shape)
        if tuple(like.shape[2:]) != self.shape[1:]:
            table = _resized(table, like.shape[2], like.shape[3])
        return table.to(like)


def spectrum_of(images: Images, *, periodic: bool = True) -> Spectrum:
    """The average magnitude spectrum of `images` [n, c, h, w] in [0, 1], a few hundred or more.

    At frequency 0 the coefficients themselves are averaged, which sets the mean colour; at the
    others that have no phase (the Nyquist frequencies of even sizes) the magnitudes are, with the
    sign of the average coefficient. Colours are decorrelated within images.

    - `periodic`: without the jumps between opposite borders, which images have only for the
      Fourier transform, and which would draw lines along both axes

    **Raises** ValueError for images outside [0, 1] and images that are all flat.
    **Source**: Moisan 2011, "Periodic plus smooth image decomposition", for the borders.
    """
    check_images(images, "images")
    n, c, h, w = images.shape
    covariance = torch.zeros(c, c, dtype=torch.float64)
    for logits in _logits_of(images):
        varying = logits - logits.mean(dim=(2, 3), keepdim=True)
        samples = varying.movedim(1, 0).flatten(1)
        covariance += samples @ samples.T / (n * h * w)
    if not float(covariance.diagonal().max()) > 1e-12:
        raise bad_value("images", "differ from pixel to pixel", "flat images only")
    colors = root_of_covariance(covariance) if c > 1 else None
    mean, table = torch.zeros(2, c, h, w, dtype=torch.float64)
    for logits in _logits_of(images):
        if colors is not None:
            unmixed = torch.linalg.inv(torch.tensor(colors, dtype=logits.dtype))
            logits = torch.einsum("dc,nchw->ndhw", unmixed, logits)
        waves = torch.fft.fft2(_without_jumps(logits) if periodic else logits, norm="ortho")
        mean += waves.real.sum(dim=0) / n
        table += waves.abs().sum(dim=0) / n
    table = torch.where(_alone(table) & (mean < 0), -table, table)
    table[:, 0, 0] = mean[:, 0, 0]
    return Spectrum((c, h, w), table.contiguous().numpy().tobytes(), colors)


def _logits_of(images: Images) -> Iterator[Tensor]:
    """The logits of pixel values, in double precision on the CPU, some rows at a time."""
    for part in images.detach().split(AT_ONCE):
        yield torch.logit(0.5 + (part.double().cpu() - 0.5) * (1 - INSET))


@final
@dataclass(frozen=True)
class MaCo(AbstractParameterization):
    """Images of the magnitude spectrum r, whose phases theta [n, c, h, w] are the variables.

    x = sigmoid(C F^-1(r exp(i phi))), phi(f) = (theta(f) - theta(-f)) / 2, which makes the
    inverse transform real. So the magnitudes are r whatever theta is, and a search cannot add the
    high frequencies that networks respond to and eyes do not. `encode` keeps an image's phases
    alone: it is not inverted by `decode`, unless the image has these magnitudes.

    - `spectrum`: r and the colours C, measured by `spectrum_of`; None: r = 1 / f as in natural
      images, with logits of variance 1 and mean 0, each channel by itself

    Any size, odd ones too, and any number of channels.

    **Raises** ValueError (when used) for images that are flat, which have no phases, and for a
    spectrum of another number of channels.
    **Source**: Fel et al. 2023 ("Unlocking Feature Visualization for Deeper Networks with
    MAgnitude Constrained Optimization", arXiv 2306.06805), section 4.
    **Differs from the paper**: phases of opposite frequencies are opposite, so that no magnitude
    changes (in the published code those of the first and last column do); r is measured from
    logits, of their periodic component, in place of standardising each image; the mean colour is
    fixed.

    >>> theta = torch.randn(2, 3, 6, 5)
    >>> bool((MaCo().decode(theta) > 0).all())
    True
    """

    spectrum: Spectrum | None = None

    def encode(self, x: Images) -> Theta:
        """The phases of `x`; half precision is raised to float32."""
        real, imaginary = _parts(self._waves.encode(x))
        sizes = torch.hypot(real, imaginary).flatten(2)[:, :, 1:].flatten(1)
        flat = (sizes > 1e-6).sum(dim=1) == 0
        if bool(flat.any()):
            raise bad_value(
                "start",
                "vary from pixel to pixel, for the phases of a flat image are not defined",
                f"a flat image in row {int(flat.nonzero()[0, 0])}",
                "Start from noise.",
            )
        return torch.atan2(imaginary, real)

    def decode(self, theta: Theta) -> Images:
        phase = (theta - _mirrored(theta)) / 2
        waves = self._magnitudes(theta) * (phase.cos() - phase.sin())
        return self._waves.decode(waves)

    @property
    def _waves(self) -> Fourier:
        return Fourier(0.0, None if self.spectrum is None else self.spectrum.colors, INSET)

    def _magnitudes(self, like: Tensor) -> Tensor:
        if self.spectrum is not None:
            return self.spectrum.magnitudes(like)
        h, w = like.shape[-2:]
        down, across = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (h, w))
        table = 1 / torch.hypot(down[:, None], across).clamp(min=1 / max(h, w))
        table[0, 0] = 0
        return (table / table.square().mean().sqrt().clamp(min=1e-12)).to(like)


def _parts(waves: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the Fourier transform, from the Hartley transform."""
    mirrored = _mirrored(waves)
    return (waves + mirrored) / 2, (mirrored - waves) / 2


def _mirrored(x: Tensor) -> Tensor:
    """Each frequency's entry at the opposite frequency; the last two dimensions."""
    return x.flip((-2, -1)).roll((1, 1), (-2, -1))


def _without_jumps(x: Tensor) -> Tensor:
    """The periodic component of images: less a smooth image with the jumps of their borders."""
    h, w = x.shape[-2:]
    jumps = torch.zeros_like(x)
    down, across = x[..., -1, :] - x[..., 0, :], x[..., -1] - x[..., 0]
    jumps[..., 0, :] += down
    jumps[..., -1, :] -= down
    jumps[..., 0] += across
    jumps[..., -1] -= across
    u, v = (torch.fft.fftfreq(n, 1 / (2 * math.pi), dtype=x.dtype).cos() for n in (h, w))
    laplacian = 2 * (u[:, None] + v) - 4
    laplacian[0, 0] = 1  # the jumps have no mean
    smooth = torch.fft.ifft2(torch.fft.fft2(jumps) / laplacian).real
    return x - smooth


def _alone(like: Tensor) -> Tensor:
    """Whether a frequency is its own opposite, [h, w]."""
    index = torch.arange(like.shape[-2] * like.shape[-1]).reshape(like.shape[-2:])
    return index == _mirrored(index)


def _resized(table: Tensor, h: int, w: int) -> Tensor:
    """Magnitudes [c, h', w'] at the frequencies of images [h, w], bilinear, of the same power."""
    rough = table.abs()
    near = [rough[:, i % rough.shape[1], j % rough.shape[2]] for i, j in ((0, 1), (1, 0))]
    rough[:, 0, 0] = torch.stack(near).amax(dim=0)
    for dim, size in ((1, h), (2, w)):
        place = torch.fft.fftfreq(size, dtype=torch.float64) * rough.shape[dim]
        low, share = place.floor().long(), place - place.floor()
        share = share[:, None] if dim == 1 else share
        before, after = (rough.index_select(dim, at % rough.shape[dim]) for at in (low, low + 1))
        rough = before * (1 - share) + after * share
    rough[:, 0, 0] = 0
    spread = table.square().sum(dim=(1, 2)) - table[:, 0, 0].square()
    power = spread / table[0].numel() * (h * w)
    rough = rough * (power / rough.square().sum(dim=(1, 2)).clamp(min=1e-30)).sqrt()[:, None, None]
    rough[:, 0, 0] = table[:, 0, 0] * math.sqrt(h * w / table[0].numel())
    return rough
