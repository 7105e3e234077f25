"""Frequency spectra of images, perturbations and gradients."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_labels, check_positive
from notbugs.core.types import Images, Labels, Rows
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.decision import predicted
from notbugs.models.validation import check_gradients
from notbugs.representations.smoothness import frequencies

HIGHEST = 1 / math.sqrt(2)
"""The length of the highest frequency, that of the corner, in cycles a pixel."""
CUTOFF = 0.25
"""The cutoff of high frequencies in cycles per pixel: waves shorter than four pixels."""


@dataclass(frozen=True)
class Spectrum:
    """Energy over rings of frequencies.

    - `frequency` [b]: the middle of each ring, cycles a pixel
    - `power` [n, b]: the mean squared amplitude of the waves in each ring, summed over channels
    """

    frequency: Float[Tensor, " bins"]
    power: Tensor


def radial_spectrum(images: Images, *, bins: int | None = None) -> Spectrum:
    """The mean power in rings of frequencies, of images or of changes [n, c, h, w].

    - `bins`: rings between 0 and 1 / sqrt(2) cycles a pixel; None: half the longer side. Rings
      without a frequency are left out; that of the mean (frequency 0) belongs to none.

    **Raises** ValueError for anything but four dimensions, and for fewer rings than 1.
    **Source**: the radially averaged spectrum, as in Yin et al. 2019 (arXiv 1906.08988).
    """
    _check_batch(images)
    count = max(images.shape[-2:]) // 2 if bins is None else bins
    check_count(count, "bins")
    energy, length = _energy(images), frequencies(images)
    ring = (length / HIGHEST * count).long().clamp(max=count - 1).flatten()
    nonzero = (length > 0).flatten()
    ring, energy = ring[nonzero], energy.flatten(1)[:, nonzero]
    members = torch.bincount(ring, minlength=count)
    power = energy.new_zeros(len(images), count).index_add_(1, ring, energy)
    used = members > 0
    middle = (torch.arange(count, device=images.device) + 0.5) / count * HIGHEST
    return Spectrum(middle[used].to(energy), (power / members.clamp(min=1))[:, used])


def high_frequency_share(images: Images, cutoff: float = CUTOFF) -> Rows:
    """The share of each row's energy in frequencies of at least `cutoff` cycles a pixel, [n].

    The mean of the image is ignored; a row without contrast has a share of 0. The result does not
    depend on the scale of the values: gradients may be tiny.

    **Raises** ValueError for anything but four dimensions, and for a cutoff outside
    (0, 1 / sqrt(2)].

    >>> checks = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    >>> float(high_frequency_share(checks))
    1.0
    """
    _check_batch(images)
    _check_cutoff(cutoff)
    # Scaled first: squares of a gradient of 1e-25 would vanish.
    largest = images.abs().flatten(1).amax(dim=1)
    scale = torch.where(largest > 0, largest, 1)[:, None, None, None]
    energy, length = _energy(images / scale), frequencies(images)
    total = (energy * (length > 0)).flatten(1).sum(dim=1)
    high = (energy * (length >= cutoff)).flatten(1).sum(dim=1)
    tiny = torch.finfo(energy.dtype).eps ** 2 * images[0].numel()
    return torch.where(total > tiny, high / total.clamp(min=tiny), 0)


def band_pass(images: Images, low: float = 0.0, high: float = math.inf) -> Images:
    """The images with only their frequencies in [low, high) cycles a pixel, [n, c, h, w].

    With `low` above 0 the mean goes too, and values lie around 0.

    **Raises** ValueError for anything but four dimensions, and an empty band.
    **Source**: the filter of Wang et al. 2020 (arXiv 1905.13545), with sharp edges.
    """
    _check_batch(images)
    if not 0 <= low < high:
        raise bad_value("low", f"lie in [0, high={high})", low)
    length = frequencies(images)
    kept = (length >= low) & (length < high)
    return torch.fft.ifft2(torch.fft.fft2(images) * kept).real


@prepared("images")
def input_gradients(
    model: Classifier, images: Images, labels: Labels, *, batch_size: int = 128
) -> Images:
    """The gradient of each image's cross-entropy with respect to its pixels, [n, c, h, w].

    - `images` [n, c, h, w] in [0, 1]; `labels` [n] in 0..classes-1

    The model is frozen meanwhile and left as it was.

    **Raises** ValueError for images outside [0, 1] and labels out of range.
    """
    check_labels(labels, rows=len(images), classes=model.classes, argument="labels")
    check_count(batch_size, "batch_size")
    gradients: list[Tensor] = []
    with frozen(model):
        check_gradients(model, images[:1], "input_gradients")
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            x = x.detach().requires_grad_()
            loss = F.cross_entropy(model.logits(x), y, reduction="sum")
            gradients.append(torch.autograd.grad(loss, x)[0])
    return torch.cat(gradients)


@prepared()
def fourier_heat_map(
    model: Classifier, data: ImageData, eps: float, *, seed: int = 0, batch_size: int = 256
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """(error under a wave of each frequency, in percent, and its frequency in cycles a pixel).

    To every image a wave of one frequency is added, of L2 length `eps` in each channel, its sign
    drawn for each image and channel; then pixels are cut to [0, 1]. Entry [i, j] is the frequency
    of `torch.fft.fft2`: [0, 0] is the mean; `torch.fft.fftshift` puts it in the middle.

    **Raises** ValueError for an eps that is not above 0 and a batch below 1.
    **Source**: Yin et al. 2019 (arXiv 1906.08988), section 4.
    """
    check_positive(eps, "eps")
    check_count(batch_size, "batch_size")
    channels, h, w = data.shape
    keys = random.row_keys(len(data), seed, "waves")
    signs = torch.where(random.uniform(keys, (channels, 1, 1)) < 0.5, -eps, eps).to(model.device)
    x, y = data.pixels().to(model.device), data.labels.to(model.device)
    errors = torch.zeros(h, w, dtype=torch.float64)
    with frozen(model), torch.no_grad():
        for i in range(h):
            for j in range(w):
                # A real wave is that of its opposite frequency.
                k, m = -i % h, -j % w
                if (k, m) < (i, j):
                    errors[i, j] = errors[k, m]
                    continue
                spectrum = torch.zeros(h, w, dtype=torch.complex64)
                spectrum[i, j] += 1
                spectrum[k, m] += 1
                wave = torch.fft.ifft2(spectrum).real.to(x)
                wave = wave / wave.norm()
                wrong = sum(
                    int((predicted(model.logits((a + b * wave).clamp(0, 1))) != c).sum())
                    for a, b, c in zip(
                        x.split(batch_size),
                        signs.split(batch_size),
                        y.split(batch_size),
                        strict=True,
                    )
                )
                errors[i, j] = 100 * wrong / len(x)
    return errors, frequencies(data.pixels(slice(0, 1))).double()


def _energy(images: Images) -> Tensor:
    """Squared amplitudes of all waves, summed over channels, [n, h, w]; at least in float32."""
    wide = images.float() if images.itemsize < 4 else images
    waves = torch.fft.fft2(wide, norm="ortho")
    return (waves.real.square() + waves.imag.square()).sum(dim=1)


def _check_batch(images: Tensor) -> None:
    if images.ndim != 4 or 0 in images.shape:
        raise bad_value(
            "images", "have shape [n, channels, height, width]", f"shape {tuple(images.shape)}"
        )


def _check_cutoff(cutoff: float) -> None:
    if not 0 < cutoff <= HIGHEST:
        raise bad_value("cutoff", "lie in (0, 0.7071] cycles a pixel", cutoff)
