"""A shallow net of radial basis functions: confident only near its training images."""

import math

import torch
from torch import Tensor, nn

from notbugs.core.errors import check_count, check_positive
from notbugs.models.layers import Body


class Radial(nn.Module):
    """exp(-b_j ||x - m_j||^2 / d) for centres m_j and sharpnesses b_j > 0, x of d entries."""

    def __init__(self, entries: int, units: int, sharpness: float) -> None:
        """Draws normal centres; all initial sharpnesses are equal."""
        super().__init__()
        self.centers = nn.Parameter(torch.randn(units, entries))
        self.log_sharpness = nn.Parameter(torch.full((units,), math.log(sharpness)))

    def forward(self, x: Tensor) -> Tensor:
        """[n, ...] -> [n, units]."""
        flat = x.flatten(1)
        square = flat.square().sum(dim=1, keepdim=True) + self.centers.square().sum(dim=1)
        distance = (square - 2 * flat @ self.centers.T).clamp(min=0) / flat.shape[1]
        return torch.exp(-self.log_sharpness.exp() * distance)


def rbf(
    shape: tuple[int, int, int], classes: int, *, units: int = 200, sharpness: float = 1.0
) -> Body:
    """Radial units, the embedding, and a linear layer without biases on them.

    Far from every centre all units are 0, so that all logits are 0 and no class is likelier than
    another.

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 7: shallow RBF networks,
    p(y = 1 | x) = exp((x - mu)^T beta (x - mu)). **Differs from the paper**: several centres
    share a linear layer, one sharpness a centre; centres are drawn at random (normal, as
    normalised images are) and learnt.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        units: number of centres.
        sharpness: initial b; distances are means over entries, so that it hardly depends on
            the size of the image.
    """
    check_count(units, "units")
    check_positive(sharpness, "sharpness")
    head = nn.Linear(units, classes, bias=False)
    nn.init.normal_(head.weight, std=units**-0.5)
    return Body(Radial(math.prod(shape), units, sharpness), head)
