"""Checkerboard artefacts of a model's strides, in its gradients and generated images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images
from notbugs.models import Classifier, capture, frozen, prepared
from notbugs.models.blurred import Blurred

NEAR = (-1, 0, 1)
KINDS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, Blurred)


@dataclass(frozen=True)
class Downsampling:
    """A layer with a stride above 1.

    - `name`: dotted, as in the model's body; `kernel`, `stride`: the larger of both directions
    - `period`: image pixels per output pixel, rounded
    - `even`: whether every input has equal weight, as when the stride divides the kernel
    """

    name: str
    kernel: int
    stride: int
    period: int
    even: bool


@prepared()
def downsamplings(model: Classifier) -> list[Downsampling]:
    """The convolutions, pools and blurs of the model with a stride above 1, in order.

    The model is run once on a blank image, so that branches and shortcuts are taken into account.

    **Source**: Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts" (Distill):
    uneven overlap where the stride does not divide the kernel, in gradients as well.
    """
    layers = {
        name: layer
        for name, layer in model.body.named_modules()
        if isinstance(layer, KINDS) and _largest(layer.stride) > 1
    }
    blank = torch.zeros(1, *model.shape, dtype=model.mean.dtype, device=model.device)
    with frozen(model), torch.no_grad(), capture(model.body, list(layers)) as outputs:
        model.logits(blank)
    downsampling_layers: list[Downsampling] = []
    for name, layer in layers.items():
        if name not in outputs:  # not used for such images
            continue
        kernel, stride = _largest(layer.kernel_size), _largest(layer.stride)
        even = isinstance(layer, Blurred) or kernel % stride == 0  # 1/4 + 1/4 and 1/2
        period = round(max(model.shape[1:]) / max(outputs[name].shape[-2:]))
        downsampling_layers.append(Downsampling(name, kernel, stride, period, even))
    return downsampling_layers


def checkerboard(images: Images, period: int = 2) -> float:
    """The checkerboard score of images: relative power of waves that repeat every `period` pixels.

    The mean power, over images [n, c, h, w] (or gradients, or perturbations) and channels, at the
    frequencies (a, b) / period, (a, b) != (0, 0), over the mean power at the neighbouring
    frequencies: about 1 without a checkerboard, well above 1 with one, and below 1 where such
    waves are missing. Images are cropped to a multiple of the period.

    **Raises** ValueError for a period below 2, or one of which an image has fewer than three.
    **Source**: the measure is ours; the artefact, Odena et al. 2016 (Distill).

    >>> noise = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> 0.8 < checkerboard(noise) < 1.2
    True
    """
    check_count(period, "period", 2)
    if images.ndim != 4 or min(images.shape[-2:]) < 3 * period:
        raise bad_value(
            "images",
            f"have shape [n, c, h, w] with sides of at least {3 * period} pixels",
            f"shape {tuple(images.shape)}",
        )
    h, w = (side - side % period for side in images.shape[-2:])
    wide = images[..., :h, :w].double()
    waves = torch.fft.fft2(wide - wide.mean(dim=(-2, -1), keepdim=True))
    power = (waves.real.square() + waves.imag.square()).mean(dim=(0, 1))
    on = _marked(h, w, period)
    around = torch.zeros_like(on)
    for i in NEAR:
        for j in NEAR:
            around |= on.roll((i, j), dims=(0, 1))
    around &= ~on
    around[0, 0] = False
    beside = float(power[around].mean())
    return float(power[on].mean()) / beside if beside > 0 else float("inf")


def _marked(h: int, w: int, period: int) -> Tensor:
    """Mask [h, w] of the frequencies that are multiples of 1 / period, except (0, 0)."""
    down = torch.arange(h) % (h // period) == 0
    across = torch.arange(w) % (w // period) == 0
    on = down[:, None] & across
    on[0, 0] = False
    return on


def _largest(size: object) -> int:
    return max(size) if isinstance(size, tuple) else int(str(size))  # pyright: ignore
