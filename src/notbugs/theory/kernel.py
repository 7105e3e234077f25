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
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2 or not x.shape[1] or x.dtype != a.dtype or x.shape[1] != a.shape[1]:
            wanted = (
                f"be points (n, d), of the dtype and columns of `a`, {tuple(a.shape)} {a.dtype}"
            )
            raise bad_value(name, wanted, f"{tuple(x.shape)} {x.dtype}")
    # Of points of length 1, so that no square of a short one is lost.
    lengths = [torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (a, b)]
    units = [x / torch.where(of > 0, of, 1.0) for x, of in zip((a, b), lengths, strict=True)]
    scale = lengths[0] * lengths[1].T / a.shape[1]
    cosine = units[0] @ units[1].T
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
