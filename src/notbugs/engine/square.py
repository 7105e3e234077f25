"""Square: a step rule without gradients that changes one random square at a time."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images, Rows, Theta
from notbugs.engine.norms import AbstractNorm, Linf, check_norm
from notbugs.engine.pyramid import mass, of_norm, placed, pyramids
from notbugs.engine.rules import AbstractStepRule, Needs, StepInfo

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Steps of a budget of 10,000 after which the area of the squares halves (section 5)."""
AHEAD = 32
"""Steps for which random numbers are drawn at once: drawing at each step costs a third of it."""
BEYOND_L1 = 3.0
"""Size of an L1 candidate, in radii, before its projection onto the ball in the box."""


class SquareState(NamedTuple):
    """The best point of each row so far, its value, and random numbers for the next steps."""

    best: Theta
    value: Rows
    uniform: Tensor


@final
@dataclass(frozen=True)
class Square(AbstractStepRule[SquareState]):
    """Random search: a change of one square of the image, kept if the value decreases.

    For Linf every channel of the square is set to a corner of the ball, center +- eps. For
    L2 and L1 the square gets a bump of the norm that it had, plus that of a second square,
    which is set to zero, plus the unused part of the radius. `p_init` is the share of the
    image that the first squares cover; it halves nine times over the budget. An L1 candidate
    is scaled beyond the ball, because clamping to the box removes much of it.

    **Source**: Andriushchenko et al. 2019 (arXiv 1912.00049), Algorithms 1-3, and for L1
    Croce & Hein 2021 (arXiv 2103.01208), section 5.
    **Differs from the paper**: a Linf square that would change nothing gets the
    opposite signs (the paper's code draws again); for L2 the squares have odd sides;
    L1 candidates are three radii long (measured: the robust accuracy at 800 queries falls
    from 62 to 50 % against one radius).
    """

    norm: AbstractNorm
    eps: float
    p_init: float = 0.8

    needs: ClassVar[Needs] = Needs(grad=False)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_positive(self.eps, "eps")
        if not 0 < self.p_init <= 1:
            raise bad_value("p_init", "lie in (0, 1]: a share of the image's area", self.p_init)

    def init(self, theta: Theta, info: StepInfo) -> SquareState:
        return SquareState(theta, info.value, self._draw(theta, info))

    def step(self, theta: Theta, info: StepInfo, state: SquareState) -> tuple[Tensor, SquareState]:
        best, value, uniform = state
        if info.step:
            # Neither not lower nor NaN: so any number is better than a NaN at the start.
            lower = ~((info.value >= value) | info.value.isnan())
            best = rows.where(lower, theta, best)
            value = torch.where(lower, info.value, value)
            if info.step % AHEAD == 0:
                uniform = self._draw(theta, info)
        area = share(info.step, info.max_steps, self.p_init) * best[0, 0].numel()
        propose = self._corners if isinstance(self.norm, Linf) else self._bumps
        u = uniform[:, info.step % AHEAD]
        return propose(best, info, u, area), SquareState(best, value, uniform)

    def _draw(self, theta: Theta, info: StepInfo) -> Tensor:
        """Uniform numbers for the next `AHEAD` steps, [n, AHEAD, numbers of a step]."""
        # A position takes two numbers; L2 and L1 use two squares, one of random orientation.
        count = (2 if isinstance(self.norm, Linf) else 5) + theta.shape[1]
        return random.uniform(random.fold(info.keys, "square", info.step), (AHEAD, count))

    def _corners(self, best: Images, info: StepInfo, u: Tensor, area: float) -> Images:
        side = min(max(round(area**0.5), 1), *best.shape[2:])
        pixels = window(u[:, 0], u[:, 1], best, side)[:, None].expand(-1, best.shape[1], -1)
        # Only the pixels of the square, which are few late in the budget.
        current, center = (v.flatten(2).gather(2, pixels) for v in (best, info.center))
        lowest, highest = (center - self.eps).clamp_(min=0), (center + self.eps).clamp_(max=1)
        low = (u[:, 2:] < 0.5)[:, :, None]
        new = torch.where(low, lowest, highest)
        unchanged = (new == current).flatten(1).all(dim=1)[:, None, None]
        new = torch.where(low ^ unchanged, lowest, highest)
        return best.flatten(2).scatter(2, pixels, new.to(best.dtype)).reshape(best.shape)

    def _bumps(self, best: Images, info: StepInfo, u: Tensor, area: float) -> Images:
        # Odd, so that the bump has a centre, and at least 3.
        side = max(round(area**0.5), 3) | 1
        limit = min(best.shape[2:])
        side = min(side, limit if limit % 2 else max(limit - 1, 1))
        target, row, column = spots(u[:, 0], u[:, 1], best, side)
        source, _, _ = spots(u[:, 2], u[:, 3], best, side)
        sign = torch.where(u[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None].to(best.dtype)
        bump = placed(pyramids(side, side, best), row, column, u[:, 4] < 0.5)
        return self._refilled(best - info.center, target, source, sign * bump) + info.center

    def _refilled(self, delta: Images, target: Tensor, source: Tensor, bump: Images) -> Images:
        """`delta` with a bump in the square `target` and zero in the square `source`."""
        norm, weight = self.norm, mass(delta, self.norm)
        available = (self.eps_mass() - weight.sum(dim=(1, 2, 3), keepdim=True)).clamp_(min=0)
        both = target | source
        available = available / delta.shape[1] + (weight * both).sum(dim=(2, 3), keepdim=True)
        norm_before = of_norm((weight * target).sum(dim=(2, 3), keepdim=True), norm)
        new = bump + delta * target / norm_before.clamp_(min=1e-12)
        length = of_norm(mass(new, norm).sum(dim=(2, 3), keepdim=True), norm)
        new = new * (of_norm(available, norm) / length.clamp_(min=1e-12))
        # Outside the target square the new part is zero.
        updated = torch.where(target, new, delta * ~source)
        length = self.eps * (BEYOND_L1 if norm.name == "l1" else 1.0)
        return updated * rows.expand(length / norm.size(updated).clamp(min=1e-12), updated)

    def eps_mass(self) -> float:
        """The radius as the sum of entries that `mass` gives."""
        return self.eps if self.norm.name == "l1" else self.eps**2


def share(step: int, steps: int, p_init: float) -> float:
    """The share of the image that a square covers: `p_init`, halved along the budget."""
    scaled_step = step * 10_000 // steps
    return p_init / 2 ** sum(scaled_step > mark for mark in HALVINGS)


def spots(u: Rows, v: Rows, like: Images, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """(mask [n, 1, h, w] of a square of each row, its row offsets [n, h], columns [n, w]).

    `u` and `v` in [0, 1) give its position, such that the square lies inside the image.
    An offset counts from the square's edge; the square covers the offsets 0..side-1.
    """
    row, down = _along(u, like.shape[2], side)
    column, across = _along(v, like.shape[3], side)
    return (down[:, None, :, None] & across[:, None, None, :]), row, column


def window(u: Rows, v: Rows, like: Images, side: int) -> Tensor:
    """The pixels of a square of each row, [n, side * side], counted along the flat image."""
    h, w = like.shape[2:]
    offset = torch.arange(side, device=u.device)
    down, across = _first(u, h, side)[:, None] + offset, _first(v, w, side)[:, None] + offset
    return (down[:, :, None] * w + across[:, None, :]).flatten(1)


def _first(u: Rows, length: int, side: int) -> Tensor:
    return (u * max(length - side + 1, 1)).to(torch.int64)


def _along(u: Rows, length: int, side: int) -> tuple[Tensor, Tensor]:
    offset = torch.arange(length, device=u.device) - _first(u, length, side)[:, None]
    return offset, (offset >= 0) & (offset < side)
