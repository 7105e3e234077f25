"""Perturbations of exactly one size."""

from typing import NamedTuple

import torch

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_images, check_positive
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine import AbstractNorm

TOLERANCE = 0.01
_DOUBLINGS = 24
_HALVINGS = 40


class Sized(NamedTuple):
    """Images at the wanted distance, the distance itself, and which rows reached it."""

    x: Images
    distance: Rows
    reached: Mask


def to_size(x: Images, x_adv: Images, norm: AbstractNorm, eps: float) -> Sized:
    """`x_adv` moved along its own perturbation until norm(x_adv - x) = eps (see `along`).

    - `x`, `x_adv` [n, c, h, w] in [0, 1]; `eps` in pixel units of [0, 1]

    **Raises** ValueError for images outside [0, 1], two shapes, or an eps that is not positive.
    """
    check_images(x)
    check_images(x_adv, "x_adv")
    if x_adv.shape != x.shape:  # would broadcast
        raise bad_value("x_adv", f"have the shape of `x`, {tuple(x.shape)}", tuple(x_adv.shape))
    return along(x, x_adv - x, norm, eps)


def along(x: Images, delta: Images, norm: AbstractNorm, eps: float) -> Sized:
    """`x` moved along `delta` until it is eps away, inside [0, 1].

    Solves, for each row, size(clamp(x + s * delta) - x) = eps for s > 0. The left side
    grows with s (a clamped pixel stops, none turns back), so s is bracketed by doubling
    and found by bisection. A row that cannot come within 1 % of eps, because its pixels
    saturate or its delta is zero, is marked as not reached.

    - `x`, `delta` [n, c, h, w], `x` in [0, 1]

    **Raises** ValueError for an eps that is not positive.
    """
    check_positive(eps, "eps")
    delta = delta / rows.expand(norm.size(delta).clamp(min=1e-12), delta)
    low = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    high = torch.full_like(low, eps)

    def size_at(s: Rows) -> Rows:
        return norm.size((x + rows.expand(s, x) * delta).clamp(0, 1) - x)

    for _ in range(_DOUBLINGS):
        high = torch.where(size_at(high) < eps, 2 * high, high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        under = size_at(middle) < eps
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    moved = (x + rows.expand(low, x) * delta).clamp(0, 1)
    distance = norm.size(moved - x)
    return Sized(moved, distance, (distance - eps).abs() <= TOLERANCE * eps)
