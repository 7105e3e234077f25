"""He's initial weights, and seeding of torch's generator."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from notbugs.core.random import seed_of
from notbugs.models.layers import Body


@contextmanager
def seeded(*names: object) -> Generator[None, None, None]:
    """Runs the block on CPU with the default generator seeded from `names`.

    The caller's random state is restored on exit. Only the CPU generator is seeded:
    `torch.manual_seed` would also reseed the accelerators'.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed_of(*names))
        yield


def initialised(trunk: nn.Module, head: nn.Module) -> Body:
    """A body of both parts, with He's initial weights.

    Convolutions and linear layers: N(0, 2 / fan_in), biases 0; the head, which no ReLU
    follows: N(0, 1 / fan_in). Norms keep torch's own weight 1 and bias 0.

    **Source**: He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852, eq. 10.
    """
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            _zero_bias(layer)
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            _zero_bias(layer)
    return Body(trunk, head)


def _zero_bias(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        nn.init.zeros_(layer.bias)
