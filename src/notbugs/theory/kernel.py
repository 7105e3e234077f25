"""The kernel of an infinitely wide net in closed form."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_count


def tangent_kernel(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m _"], *, depth: int = 2
) -> Float[Tensor, "n m"]:
    """The neural tangent kernel of a net of `depth` hidden layers of ReLU, without biases, [n, m].

    In the parametrisation of Jacot et al.: weights are drawn from N(0, 1), and a layer of w inputs
    scales its sums by sqrt(2 / w), the first by sqrt(1 / d). Differentiable in both arguments;
    between points of one direction, where the arc cosine has no slope, as if their angle stayed. An
    infinitely wide net that is trained by gradient descent on the squared error is a regression
    with this kernel.

    **Raises** ValueError for a depth below 1, and points of other dimensions.
    **Source**: Jacot et al. 2018 (arXiv 1806.07572), theorem 1; the expectations over ReLUs are
    those of Cho & Saul 2009, section 2.
    """
    check_count(depth, "depth")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise bad_value("b", f"have the {a.shape[-1]} columns of `a`", tuple(b.shape))
    d = a.shape[1]
    lengths = [x.square().sum(dim=1).div(d).clamp(min=1e-12).sqrt() for x in (a, b)]
    scale = lengths[0][:, None] * lengths[1]
    cosine = a @ b.T / d / scale
    tangent = cosine
    for _ in range(depth):
        # Beyond this the angle is 0 (or pi) up to rounding.
        near_one = 1 - 4 * torch.finfo(cosine.dtype).eps
        inside = cosine.clamp(-near_one, near_one)
        angle = torch.where(cosine.abs() < near_one, inside.arccos(), (cosine < 0) * math.pi)
        slope = (math.pi - angle) / math.pi
        sine = torch.where(cosine.abs() < near_one, (1 - inside.square()).sqrt(), 0.0)
        cosine = (sine + cosine.clamp(-1, 1) * (math.pi - angle)) / math.pi
        tangent = cosine + tangent * slope
    return scale * tangent
