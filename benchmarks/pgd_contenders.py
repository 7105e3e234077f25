"""Who runs PGD: ours, the peers, and the plain loop that everything is divided by."""

import itertools
from collections.abc import Callable

import torch
from craft import Craft, Setting, on_frozen
from pgd_peers import BY_PARAMETERS, peers_pgd
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.attacks import pgd
from notbugs.engine import NORMS
from notbugs.models import frozen

PLAIN = "plain loop"
NEAR = "plain loop, near start"
OURS = {
    "notbugs": {"fast": False, "dropping": False},
    "notbugs, fast path": {"fast": True, "dropping": False},
    "notbugs, dropping": {"fast": False, "dropping": True},
    "notbugs, dropping, fast path": {"fast": True, "dropping": True},
}
"""Ours: with the model's folded copy or without; to the last step or to the success."""


def contenders(setting: Setting) -> dict[str, Craft]:
    """Everyone at one setting, by the name in the tables."""
    mine = {name: ours(setting, **options) for name, options in OURS.items()}
    return {PLAIN: plain(setting), **mine, **peers_pgd(setting)}


def in_time(setting: Setting) -> dict[str, Craft]:
    """As `contenders`, and the peers on a frozen model where that saves them work."""
    made = contenders(setting)
    return made | {f"{name}, model frozen": on_frozen(made[name]) for name in BY_PARAMETERS}


def in_strength(setting: Setting) -> dict[str, Craft]:
    """As `contenders`; freezing changes nothing there, but the start does."""
    made = contenders(setting)
    if setting.random_start and setting.norm == "l2":
        made[NEAR] = plain(setting, near=True)
    return made


def plain(setting: Setting, *, near: bool = False) -> Craft:
    """What one would write by hand: frozen parameters, no checks, the last point returned.

    `near`: an L2 start of uniform length, as torchattacks and torchattack draw it, not one
    that is uniform in the ball.
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
        with frozen(model):
            for _ in range(setting.steps):
                x_adv = x_adv.detach().requires_grad_()
                loss = F.cross_entropy(model(x_adv), y, reduction="sum")
                (grad,) = torch.autograd.grad(loss, x_adv)
                with torch.no_grad():
                    x_adv = climb(x_adv, grad, *around)
        return x_adv.detach()

    return craft


def ours(setting: Setting, *, fast: bool, dropping: bool) -> Craft:
    """notbugs' PGD as a user calls it: checks, the best point kept, the result verified."""
    attack = pgd(
        NORMS[setting.norm],
        setting.eps,
        steps=setting.steps,
        step_size=setting.step_size,
        random_start=setting.random_start,
        stop_on_success=dropping,
    )
    calls = itertools.count()  # a fresh start at each call, as the peers draw one

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        # The peers draw from the global generator: its seed is made ours too.
        return attack(model, x, y, seed=torch.initial_seed() + next(calls), fast=fast).x_adv

    return craft


def _lengths(d: Tensor) -> Tensor:
    return torch.linalg.vector_norm(d.flatten(1), dim=1)[:, None, None, None]


def _noise(x: Tensor, setting: Setting, near: bool) -> Tensor:
    if setting.norm == "linf":
        return torch.empty_like(x).uniform_(-setting.eps, setting.eps)
    direction = torch.randn_like(x)
    radius = torch.rand(len(x)) ** (1 if near else 1 / x[0].numel())
    return setting.eps * radius[:, None, None, None] * direction / _lengths(direction)
