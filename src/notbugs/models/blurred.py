"""Half the size without aliasing: blur, then every second value."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Blurred(nn.Module):
    """[n, c, h, w] -> [n, c, ceil(h / 2), ceil(w / 2)]: a binomial 3x3 filter with stride 2.

    The edge is repeated outwards. No parameters.

    **Source**: Zhang 2019 (arXiv 1904.11486), section 3, the filter "Triangle-3".
    """

    kernel_size, stride = 3, 2

    def forward(self, x: Tensor) -> Tensor:
        """The smaller map."""
        tap = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = torch.outer(tap, tap).expand(x.shape[1], 1, 3, 3)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, kernel, stride=2, groups=x.shape[1])
