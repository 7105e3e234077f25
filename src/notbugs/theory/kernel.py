"""The kernel of an infinitely wide net in closed form."""

import math

from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import bad_value, check_count

NEAR_ONE = 1 - 1e-6
"""The largest cosine: at 1 the slope of the arc cosine is infinite."""


def tangent_kernel(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m _"], *, depth: int = 2
) -> Float[Tensor, "n m"]:
    """The neural tangent kernel of a net of `depth` hidden layers of ReLU, without biases, [n, m].

    With Gaussian weights of variance 2 / (inputs of the layer), so that a layer keeps lengths, and
    <a, b> / d at the inputs. Differentiable in both arguments. An infinitely wide net that is
    trained by gradient descent on the squared error is a regression with this kernel.

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
        cosine = cosine.clamp(-NEAR_ONE, NEAR_ONE)
        angle = cosine.arccos()
        slope = (math.pi - angle) / math.pi
        cosine = ((1 - cosine.square()).sqrt() + cosine * (math.pi - angle)) / math.pi
        tangent = cosine + tangent * slope
    return scale * tangent
