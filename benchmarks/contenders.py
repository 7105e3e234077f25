"""Who is measured: our `pgd`, the peers', and the plain loop that everything is divided by."""

import itertools
from collections.abc import Callable
from contextlib import contextmanager

import peers
import torch
from peers import Craft, Setting
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.attacks import pgd
from notbugs.engine import NORMS

PLAIN = "plain loop"
FROZEN = "foolbox, model frozen"
NEAR = "plain loop, torchattacks' start"


def contenders(setting: Setting) -> dict[str, Craft]:
    """Every contender at one setting, by the name it has in the tables."""
    foolbox = peers.foolbox_pgd(setting)
    return {
        PLAIN: plain(setting),
        "notbugs": ours(setting),
        "foolbox": foolbox,
        FROZEN: _on_frozen(foolbox),
        "torchattacks": peers.torchattacks_pgd(setting),
    }


def in_strength(setting: Setting) -> dict[str, Craft]:
    """As `contenders`, for strength: freezing changes nothing there, but the start does."""
    made = {name: craft for name, craft in contenders(setting).items() if name != FROZEN}
    if setting.random_start and setting.norm == "l2":
        made[NEAR] = plain(setting, near=True)
    return made


def plain(setting: Setting, *, near: bool = False) -> Craft:
    """What one would write by hand: frozen parameters, no checks, the last point returned.

    `near`: an L2 start as torchattacks draws it, of uniform length, not uniform in the ball.
    """
    step, eps = setting.step_size, setting.eps

    def climb_linf(x: Tensor, grad: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return torch.clamp(x + step * grad.sign(), low, high)

    def climb_l2(x: Tensor, grad: Tensor, center: Tensor) -> Tensor:
        delta = x + step * grad / _lengths(grad).clamp(min=1e-12) - center
        delta = delta * (eps / _lengths(delta).clamp(min=1e-12)).clamp(max=1)
        return torch.clamp(center + delta, 0, 1)

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        linf = setting.norm == "linf"
        around = ((x - eps).clamp(min=0), (x + eps).clamp(max=1)) if linf else (x,)
        climb: Callable[..., Tensor] = climb_linf if linf else climb_l2
        x_adv = x
        if setting.random_start:
            x_adv = (x + _noise(x, setting, near)).clamp(0, 1)
        with _frozen(model):
            for _ in range(setting.steps):
                x_adv = x_adv.detach().requires_grad_()
                loss = F.cross_entropy(model(x_adv), y, reduction="sum")
                (grad,) = torch.autograd.grad(loss, x_adv)
                with torch.no_grad():
                    x_adv = climb(x_adv, grad, *around)
        return x_adv.detach()

    return craft


def ours(setting: Setting) -> Craft:
    """notbugs' PGD as a user calls it: checks, the best point kept, the result verified."""
    attack = pgd(
        NORMS[setting.norm],
        setting.eps,
        steps=setting.steps,
        step_size=setting.step_size,
        random_start=setting.random_start,
    )
    calls = itertools.count()  # a fresh start at each call, as the peers draw one

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        # The peers draw from the global generator: its seed is made ours too.
        return attack(model, x, y, seed=torch.initial_seed() + next(calls)).x_adv

    return craft


def _on_frozen(craft: Craft) -> Craft:
    def frozen_craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with _frozen(model):
            return craft(model, x, y)

    return frozen_craft


@contextmanager
def _frozen(model: nn.Module):
    tracked = [p for p in model.parameters() if p.requires_grad]
    for p in tracked:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in tracked:
            p.requires_grad_(True)


def _lengths(d: Tensor) -> Tensor:
    return torch.linalg.vector_norm(d.flatten(1), dim=1)[:, None, None, None]


def _noise(x: Tensor, setting: Setting, near: bool) -> Tensor:
    if setting.norm == "linf":
        return torch.empty_like(x).uniform_(-setting.eps, setting.eps)
    direction = torch.randn_like(x)
    radius = torch.rand(len(x)) ** (1 if near else 1 / x[0].numel())
    return setting.eps * radius[:, None, None, None] * direction / _lengths(direction)
