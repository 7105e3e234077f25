"""Upper bounds of each layer's gain, and how much layers amplify given changes."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.core.types import Images
from notbugs.models import Classifier, capture, frozen, prepared
from notbugs.models.chain import chain_of

ONE = (nn.ReLU, nn.Tanh, nn.Identity, nn.Flatten, nn.Dropout)
"""Layers whose outputs are never farther apart than their inputs."""
KNOWN = (
    *ONE,
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.AdaptiveAvgPool2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
)


@prepared()
def lipschitz_bounds(model: Classifier) -> dict[str, float]:
    """An upper bound of each layer's Lipschitz constant in L2, by its name, in order.

    "normalise" is the subtraction of the mean and division by the deviation. The product of all
    bounds that of the logits by the pixels.

    - dense layers: the largest singular value
    - convolutions: the largest singular value over the frequencies of a torus that holds the
      padded image, of which the layer is a part; with a stride s, of s^2 aliases side by side
    - pools: maximum, the windows that a pixel is in, by its root; mean, as a convolution
    - batch norms in eval mode: the largest |scale| / deviation; sigmoid 1/4; ReLU and tanh 1

    **Raises** ValueError for a model that is not a chain of such layers.
    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.3, whose bound of a convolution has
    circular edges.
    """
    shapes = chain_of(model)
    modules = dict(model.body.named_modules())
    bounds = {"normalise": float((1 / model.std.abs()).max())}
    for name, size in shapes.items():
        bounds[name] = _bound(modules[name], name, size)
    return bounds


@prepared("x", "moved")
def amplification(model: Classifier, x: Images, moved: Tensor) -> dict[str, Tensor]:
    """By how much each layer lengthens the change from `x` to `moved` in L2, by its name, [n].

    The change of the layer's output over that of its input; of a change that is already zero, 0.

    **Raises** ValueError for a model that is not a chain of layers.
    """
    if moved.shape != x.shape:
        raise bad_value("moved", f"have the shape of `x`, {tuple(x.shape)}", tuple(moved.shape))
    names = list(chain_of(model))
    with frozen(model), torch.no_grad(), capture(model.body, names) as outputs:
        model(x)
        before = {name: outputs[name].flatten(1) for name in names}
        start = model.normalise(x).flatten(1)
        model(moved)
        after = {name: outputs[name].flatten(1) for name in names}
        end = model.normalise(moved).flatten(1)
    lengths = [(moved - x).flatten(1).norm(dim=1), (end - start).norm(dim=1)]
    lengths += [(after[name] - before[name]).norm(dim=1) for name in names]
    ratios = [torch.where(a > 0, b / a, 0.0) for a, b in pairwise(lengths)]
    return dict(zip(("normalise", *names), ratios, strict=True))


def _bound(layer: nn.Module, name: str, size: tuple[int, ...]) -> float:
    # A subclass that computes something else is not of the kind.
    if not any(isinstance(layer, k) and type(layer).forward is k.forward for k in KNOWN):
        raise _unknown(name, type(layer).__name__)
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            return float(torch.linalg.matrix_norm(layer.weight.double(), 2))
        if isinstance(layer, nn.Conv2d):
            pads = layer.padding if isinstance(layer.padding, tuple) else None
            if pads is None or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
                raise _unknown(name, "a convolution that is dilated, or not padded by zeros")
            return conv_bound(layer.weight, layer.stride, pads, size[1:], layer.groups)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_var is not None:
            scale = torch.ones_like(layer.running_var) if layer.weight is None else layer.weight  # pyright: ignore
            return float((scale.abs() / (layer.running_var + layer.eps).sqrt()).max())
    if isinstance(layer, nn.LeakyReLU):
        return max(1.0, abs(layer.negative_slope))
    if isinstance(layer, nn.Sigmoid):
        return 0.25
    if isinstance(layer, ONE):
        return 1.0
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return 1 / math.sqrt(math.prod(size[1:]))
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return _pool_bound(layer, name, size)
    raise _unknown(name, type(layer).__name__)


def _pool_bound(layer: nn.MaxPool2d | nn.AvgPool2d, name: str, size: tuple[int, ...]) -> float:
    kernel, stride, pad = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    if isinstance(layer, nn.MaxPool2d):
        if _pair(layer.dilation) != (1, 1):
            raise _unknown(name, "a dilated pool")
        windows = (math.ceil(k / s) for k, s in zip(kernel, stride, strict=True))
        return math.sqrt(math.prod(windows))
    plain = layer.count_include_pad or pad == (0, 0)
    if layer.ceil_mode or layer.divisor_override is not None or not plain:
        raise _unknown(name, "a mean pool with a divisor of its own")
    mean = torch.full((1, 1, *kernel), 1 / math.prod(kernel))
    return conv_bound(mean, stride, pad, size[1:])


def _unknown(name: str, what: str) -> ValueError:
    return bad_value("model", "have layers of known bounds", f"'{name}', {what}")


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@torch.no_grad()
def conv_bound(
    weight: Tensor,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    size: tuple[int, ...] = (32, 32),
    groups: int = 1,
) -> float:
    """The largest gain in L2 of a convolution of images of `size` on a torus, an upper bound.

    - `weight` [out, in / groups, h, w]; `padding`: of zeros, with which the torus holds the image
    """
    torus = [
        max(s * math.ceil((n + 2 * p) / s), s * math.ceil(k / s))
        for n, k, s, p in zip(size, weight.shape[2:], stride, padding, strict=True)
    ]
    spectrum = torch.fft.fft2(weight.double(), s=torus)
    out, inner = weight.shape[0] // groups, weight.shape[1]
    (sh, sw), (h, w) = stride, (n // s for n, s in zip(torus, stride, strict=True))
    aliases = spectrum.reshape(groups, out, inner, sh, h, sw, w).permute(0, 4, 6, 1, 2, 3, 5)
    matrices = aliases.reshape(groups * h * w, out, inner * sh * sw) / math.sqrt(sh * sw)
    return float(torch.linalg.svdvals(matrices).max())
