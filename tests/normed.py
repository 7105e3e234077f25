"""Convolutional nets with batch norms, and layers that cannot be copied honestly."""

import torch
from torch import nn

from notbugs.core import random
from notbugs.models import wrap

SHAPE, N = (3, 8, 8), 32
PATCHES = random.uniform(random.row_keys(N, "stand-in"), (3, 2, 2))
IMAGES = PATCHES.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


class Block(nn.Module):
    """A residual block; `shared` uses one convolution twice, so that it must not be folded."""

    def __init__(self, shared) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.shared = shared

    def forward(self, x):
        out = self.norm(self.conv(x))
        if self.shared:
            out = out + self.conv(x)
        return torch.relu(out + x)


class Branching(nn.Module):
    """A forward pass that depends on the data: no symbolic trace goes through it."""

    def forward(self, x):
        return x if float(x.detach().sum()) > -1e9 else -x


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Fading(nn.Module):
    """What it multiplies by is no part of its state, and falls with every training pass."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 1.0

    def forward(self, x):
        if self.training:
            self.size *= 0.8
        return self.size * x


def net(*more, shared=False, seed=0, centred=False):
    """A convolutional net whose batch norms have seen something."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        Block(shared),
        *more,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    for norm in body.modules():
        if isinstance(norm, nn.BatchNorm2d):
            if norm.track_running_stats:
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.3, 3)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2)
                nn.init.normal_(norm.bias)
    colours = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.2)}
    model = wrap(body.eval(), shape=SHAPE, classes=4, embedding="3", **colours).eval()
    if centred:  # so that it names several classes
        with torch.no_grad():
            body[-1].bias.sub_(model.logits(IMAGES).mean(dim=0))
    return model
