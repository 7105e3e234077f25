"""The wide residual networks of DeepMind, with smooth activations."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.models.initial import initialised
from notbugs.models.layers import Body

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU}
PUBLISHED = {"trunk.": "", "head.": "logits."}
"""What the parts of the body are called in public checkpoints."""


class _Block(nn.Module):
    """Norm and activation, then two convolutions; the first pads as TensorFlow's SAME does."""

    def __init__(self, before: int, after: int, stride: int, activation: str) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(before)
        self.relu_0 = ACTIVATIONS[activation]()
        self.conv_0 = nn.Conv2d(before, after, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(after)
        self.relu_1 = ACTIVATIONS[activation]()
        self.conv_1 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = before == after
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu_0(self.batchnorm_0(x))
        # A shortcut that convolves starts after the activation, a plain one before it.
        shortcut = x if self.shortcut is None else self.shortcut(active)
        # Of an even side, a stride of 2 gets its one line of zeros at the end.
        top, left = (side % 2 if self.stride == 2 else 1 for side in (x.shape[-2], x.shape[-1]))
        padded = F.pad(active, (left, 1, top, 1))
        return shortcut + self.conv_1(self.relu_1(self.batchnorm_1(self.conv_0(padded))))


class _Group(nn.Module):
    """Blocks of one width, the first of which may halve the maps."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.block = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def dm_wide(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 28,
    widen: int = 10,
    activation: str = "silu",
) -> Body:
    """A wide residual network with SiLU (Swish): WRN-28-10 by default, as DeepMind trains them.

    It differs from `wide` in the activation, in the padding of strided convolutions (at the end),
    and in the shortcut of the first blocks. Checkpoints of such nets in RobustBench (Gowal 2020,
    Rebuffi 2021, Wang 2023, and others) fit by name.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        depth: number of convolutional layers, 6 * n + 4.
        widen: how many times as wide as the plain network; the embedding has 64 * widen entries.
        activation: "silu" or "relu".

    Raises:
        ValueError: a depth that is not 6 * n + 4 with n at least 1, or an unknown activation.

    **Source**: Gowal et al. 2020, Uncovering the Limits of Adversarial Training against
    Norm-Bounded Adversarial Examples, arXiv:2010.03593, section 3; its public checkpoints.
    **Differs from the paper**: images of any size are averaged over all positions.
    """
    check_count(widen, "widen")
    check_count(depth, "depth")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    units, remainder = divmod(depth - 4, 6)
    if remainder or units < 1:
        expected, remedy = (
            "be 6 * n + 4 for some n of at least 1",
            "Take 28 or 70, for example.",
        )
        raise bad_value("depth", expected, depth, remedy)
    groups, before = list[nn.Module](), 16
    for stage in range(3):
        after, stride = 16 * widen * 2**stage, 1 if stage == 0 else 2
        blocks: list[nn.Module] = [_Block(before, after, stride, activation)]
        blocks += [_Block(after, after, 1, activation) for _ in range(units - 1)]
        groups.append(_Group(blocks))
        before = after
    layers: dict[str, nn.Module] = {
        "init_conv": nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        "layer": nn.Sequential(*groups),
        "batchnorm": nn.BatchNorm2d(before),
        "relu": ACTIVATIONS[activation](),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
    }
    body = initialised(nn.Sequential(OrderedDict(layers)), nn.Linear(before, classes))
    body.published = PUBLISHED
    return body
