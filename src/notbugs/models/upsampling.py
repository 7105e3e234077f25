"""Upsampling by 2: resizing and a convolution, or a transposed convolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core.errors import unknown_name

UPSAMPLES = ("resize", "transposed", "uneven")


def doubled(before: int, after: int, how: str) -> list[nn.Module]:
    """Layers [n, before, h, w] -> [n, after, 2h, 2w].

    - "resize": every value is repeated 2 x 2, then a 3x3 convolution: no checkerboard
    - "transposed": a transposed convolution with kernel 4 and stride 2, which covers all
      pixels equally often, but by different weights
    - "uneven": one with kernel 3 and stride 2, which covers some pixels up to four times as often
      as others

    **Raises** ValueError for another name.
    **Source**: Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts", Distill.
    """
    if how == "resize":
        return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)]
    if how == "transposed":
        return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    if how == "uneven":
        return [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)]
    raise unknown_name("upsample", how, UPSAMPLES)


def padded_to(x: Tensor, multiple: int) -> Tensor:
    """`x` [n, c, h, w] padded below and right by its edges so that `multiple` divides h and w."""
    h, w = x.shape[-2:]
    below, right = -h % multiple, -w % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def he(net: nn.Module) -> None:
    """He's initial weights for all convolutions and linear layers, biases 0, in place."""
    for layer in net.modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        fan = float(layer.weight[0].numel())
        if isinstance(layer, nn.ConvTranspose2d):
            # Each output sees kernel / stride^2 of the weights of each input.
            fan = layer.in_channels * layer.weight[0, 0].numel() / 4
        nn.init.normal_(layer.weight, 0, (2 / fan) ** 0.5)
        if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
            nn.init.zeros_(layer.bias)
