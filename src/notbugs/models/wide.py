"""Wide residual networks."""

from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.models.initial import initialised
from notbugs.models.layers import Body


class _PreActivation(nn.Module):
    """Norm and ReLU, then two convolutions, with a shortcut; no ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU()
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.norm(x))
        # A shortcut that convolves starts after the activation, a plain one before it.
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return shortcut + self.branch(active)


def wide(shape: tuple[int, int, int], classes: int, *, depth: int = 28, widen: int = 10) -> Body:
    """A wide residual network with pre-activation: WRN-28-10 by default.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        depth: number of convolutional layers, 6 * n + 4.
        widen: the paper's k, how many times as wide as the plain network; the embedding
            has 64 * widen entries.

    Raises:
        ValueError: a depth that is not 6 * n + 4 with n at least 1.

    **Source**: Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1.
    **Differs from the paper**: no dropout.
    """
    check_count(widen, "widen")
    check_count(depth, "depth")
    units, remainder = divmod(depth - 4, 6)
    if remainder or units < 1:
        raise bad_value(
            "depth",
            "be 6 * n + 4 for some n of at least 1",
            depth,
            "Take 10, 16, 28 or 34, for example.",
        )
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)]
    before = 16
    for stage in range(3):
        after = 16 * widen * 2**stage
        for unit in range(units):
            stride = 2 if stage > 0 and unit == 0 else 1
            layers.append(_PreActivation(before, after, stride))
            before = after
    layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers), nn.Linear(before, classes))
