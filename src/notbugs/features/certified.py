"""What an adversary does to features at most: exact for linear ones, else by bounds of each ReLU.

**Source** of the bounds: Zhang et al. 2018, "Efficient Neural Network Robustness Certification with
General Activation Functions" (CROWN, arXiv 1811.00866), theorem 3.2, with the slopes of its section
3.3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.types import Images
from notbugs.engine import L1, L2, AbstractNorm
from notbugs.models import Classifier, frozen
from notbugs.models.blurred import Blurred
from notbugs.models.chain import chain_of
from notbugs.models.layers import INPUT

AFFINE = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    Blurred,
)
"""Layers that are affine in eval mode."""
ROWS = 2048
"""Linear functions that are bounded at once."""

Layer = Callable[[Tensor], Tensor]
Bounds = tuple[Tensor, Tensor]


def largest_gain(
    norm: AbstractNorm, weights: Float[Tensor, "m d"], x: Float[Tensor, "n d"], eps: float
) -> Float[Tensor, "n m"]:
    """max <change, weights> over changes of size eps that leave x in [0, 1], [n, m]. Exact."""
    slopes = weights.abs()
    room = torch.where(weights > 0, 1 - x[:, None], x[:, None]).clamp(min=0)  # [n, m, d]
    if isinstance(norm, L2):
        # min(scale * slope, room), with the scale that makes it eps long. Entries without room
        # only become more as the scale grows.
        scale = torch.zeros_like(room[..., :1])
        full = torch.zeros_like(room, dtype=torch.bool)
        while True:
            left = eps**2 - (room.square() * full).sum(dim=2, keepdim=True)
            free = (slopes.square() * ~full).sum(dim=2, keepdim=True)
            scale = torch.where(free > 0, (left.clamp(min=0) / free).sqrt(), torch.inf)
            more = full | (scale * slopes >= room)
            if bool((more == full).all()):
                break
            full = more
        step = torch.where(full, room, (scale * slopes).nan_to_num(0.0))
    elif isinstance(norm, L1):
        order = slopes.argsort(dim=1, descending=True, stable=True).expand_as(room)
        sorted_room = room.gather(2, order)
        used = sorted_room.cumsum(dim=2) - sorted_room
        filled = torch.minimum((eps - used).clamp(min=0), sorted_room)
        step = torch.zeros_like(room).scatter(2, order, filled)
    else:
        step = room.clamp(max=eps)
    return torch.einsum("nmd,md->nm", step, slopes)


@final
@dataclass(frozen=True, eq=False)
class CertifiedBounds:
    """Bounds of linear functions of a layer, over all images of balls: see `certified_bounds`.

    - `layers`: those up to the one that is read, the first of which normalises; None for a ReLU
    - `shapes`: of their inputs, without the row
    """

    model: Classifier
    layers: tuple[Layer | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    norm: AbstractNorm
    eps: float

    @torch.no_grad()
    def __call__(self, x: Images, weights: Float[Tensor, "m d"]) -> Bounds:
        """(lowest, highest) of <read(x + change), weights> over changes of size eps, [n, m] each.

        The box [0, 1] is not used, and arithmetic rounds as the model's does.
        """
        relus: dict[int, Bounds] = {}
        with frozen(self.model):
            for i, layer in enumerate(self.layers):
                if layer is None:
                    relus[i] = self._bounds(x, i, None, relus)
            return self._bounds(x, len(self.layers), weights, relus)

    def _bounds(
        self, x: Images, depth: int, weights: Tensor | None, relus: dict[int, Bounds]
    ) -> Bounds:
        """Bounds of the inputs of layer `depth` times weights [m, d]; None: of each unit."""
        width = self.shapes[depth]
        units = torch.Size(width).numel()
        count = units if weights is None else len(weights)
        low: list[Tensor] = []
        high: list[Tensor] = []
        for part in torch.arange(count, device=x.device).split(max(1, ROWS // len(x))):
            some = functional.one_hot(part, units).to(x) if weights is None else weights[part]
            some = some.reshape(1, len(part), *width).expand(len(x), -1, *width)
            low.append(self._lowest(x, depth, some, relus))
            high.append(-self._lowest(x, depth, -some, relus))
        return torch.cat(low, dim=1), torch.cat(high, dim=1)

    def _lowest(
        self, x: Images, depth: int, weights: Tensor, relus: dict[int, Bounds]
    ) -> Float[Tensor, "n m"]:
        """The least of <input of layer `depth`, weights>: a linear function that is below it.

        - `weights` [n, m, ...]
        """
        n, m = weights.shape[:2]
        # Before the first ReLU the function is the same for all images.
        w = weights.flatten(0, 1) if relus else weights[0]
        offset = torch.zeros(len(w), 1, device=x.device, dtype=x.dtype)
        for i in reversed(range(depth)):
            layer = self.layers[i]
            if layer is None:
                slopes, shift = _below(w.reshape(n, m, -1), *relus[i])
                w, offset = slopes.reshape(w.shape), offset + shift.reshape(-1, 1)
            else:
                w, more = _transposed(layer, self.shapes[i], w)
                offset = offset + more
        reach = self.eps * self.norm.dual(w)[:, None]
        if relus:
            centres = x.flatten(1).repeat_interleave(m, dim=0)
            inner = (centres * w.flatten(1)).sum(dim=1, keepdim=True)
            return (inner + offset - reach).reshape(n, m)
        return x.flatten(1) @ w.flatten(1).T + (offset - reach).T


def certified_bounds(
    model: Classifier, layer: str | None, norm: AbstractNorm, eps: float
) -> CertifiedBounds:
    """Bounds over balls of a model's layer, named as in `layer_of`.

    **Raises** ValueError for a model that is not a chain of ReLUs and affine layers up to there.
    """
    modules, inputs = dict(model.body.named_modules()), chain_of(model)
    name = model.embedding if layer is None else layer
    place = "" if name is None else name.removesuffix(INPUT)
    inside = [i for i, leaf in enumerate(inputs) if f"{leaf}.".startswith(f"{place}.")]
    last = inside[-1] if inside else len(inputs) - 1  # else they are the logits
    if inside and place != name:
        last = inside[0] - 1
    layers: list[Layer | None] = [model.normalise]
    for leaf in list(inputs)[: last + 1]:
        module = modules[leaf]
        is_relu = type(module).forward is nn.ReLU.forward
        known = any(type(module).forward is kind.forward for kind in AFFINE)
        with frozen(model):
            if not (is_relu or known) or not _does(module, inputs[leaf], is_relu, model.mean):
                raise bad_value(
                    "certify",
                    "be left out for layers other than ReLU and affine ones",
                    f"'{leaf}', {type(module).__name__}",
                    "Hooks, and batch norms without running statistics, make others of them.",
                )
        layers.append(None if is_relu else module)
    shapes = [model.shape, *list(inputs.values())[: last + 1]]
    with frozen(model), torch.no_grad():
        z = torch.zeros(1, *shapes[-1]).to(model.mean)
        end = tuple(z.shape[1:]) if layers[-1] is None else tuple(layers[-1](z).shape[1:])
    return CertifiedBounds(model, tuple(layers), (*shapes, end), norm, eps)


@torch.no_grad()
def _does(module: nn.Module, shape: tuple[int, ...], is_relu: bool, like: Tensor) -> bool:
    """Whether a layer is a ReLU, or affine, as it seems: on inputs at random, whatever its hooks.

    - `shape`: of an input, without the row
    """
    a, b = (random.normal(random.row_keys(4, name, "certify"), shape).to(like) for name in "ab")

    def out(x: Tensor) -> Tensor:
        return module(x.clone())  # which it may change in place

    if is_relu:
        return torch.equal(out(a), a.relu())
    rows = torch.cat([out(row[None]) for row in a])
    both, zero = out(a + b), out(torch.zeros_like(a))
    close = partial(torch.allclose, rtol=1e-3, atol=1e-3 * float(both.abs().max() + 1e-6))
    return close(out(a), rows) and close(out(a) + out(b), both + zero)


def _below(w: Float[Tensor, "n m d"], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes [n, m, d] and offset [n, m] of a function of z below <relu(z), w>.

    - `low`, `high` [n, d]: of z. A unit that may have either sign is below the chord from low to
      high, and above z or 0: the one that is nearer.
    """
    crossing = (low < 0) & (high > 0)
    chord = torch.where(crossing, high / (high - low).clamp(min=1e-30), (low >= 0).to(w))
    under = torch.where(crossing, (high > -low).to(w), (low >= 0).to(w))
    negative = w.clamp(max=0)
    upper = torch.where(crossing, -chord * low, 0.0)
    slopes = w.clamp(min=0) * under[:, None] + negative * chord[:, None]
    return slopes, torch.einsum("nmd,nd->nm", negative, upper)


def _transposed(layer: Layer, shape: tuple[int, ...], w: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [m, *shape] and offsets [m, 1] with <layer(z), w> = <z, weights> + offsets."""
    offset = layer(w.new_zeros(1, *shape))
    with torch.enable_grad():
        z = w.new_zeros(len(w), *shape).requires_grad_()
        weights = torch.autograd.grad(layer(z), z, w)[0]
    return weights, w.flatten(1) @ offset.flatten()[:, None]
