"""Square: a step rule without gradients that repaints one random square at a time."""

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
"""Steps for which random numbers are drawn at once: one by one that takes a third of a step."""
BEYOND_L1 = 3.0
"""How many radii long an L1 candidate is before its projection onto the ball in the box."""


class SquareState(NamedTuple):
    """The best point of each row so far, its value, and numbers drawn for the next steps."""

    best: Theta
    value: Rows
    drawn: Tensor


@final
@dataclass(frozen=True)
class Square(AbstractStepRule[SquareState]):
    """Random search: a change of one square of the image, kept where the value falls.

    For Linf every channel of the square moves to a corner of the ball, center +- eps. For
    L2 and L1 the square gets a bump with the part of the radius that it had, what a
    second square gives up, and what was not used. `p_init` is the share of the image
    that the first squares cover; it halves nine times over the budget. An L1 candidate is
    stretched beyond the ball, because the box cuts much of it away before the projection.

    **Source**: Andriushchenko et al. 2019 (arXiv 1912.00049), Algorithms 1-3, and for L1
    Croce & Hein 2021 (arXiv 2103.01208), section 5.
    **Differs from the paper**: a Linf square that would change nothing is painted with the
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
        best, value, drawn = state
        if info.step:
            # Neither not lower nor NaN: so any number is better than a NaN at the start.
            lower = ~((info.value >= value) | info.value.isnan())
            best = rows.where(lower, theta, best)
            value = torch.where(lower, info.value, value)
            if info.step % AHEAD == 0:
                drawn = self._draw(theta, info)
        area = share(info.step, info.max_steps, self.p_init) * best[0, 0].numel()
        paint = self._corners if isinstance(self.norm, Linf) else self._bumps
        u = drawn[:, info.step % AHEAD]
        return paint(best, info, u, area), SquareState(best, value, drawn)

    def _draw(self, theta: Theta, info: StepInfo) -> Tensor:
        """Uniform numbers for the next `AHEAD` steps, [n, AHEAD, numbers of a step]."""
        # A square's place takes two; L2 and L1 paint two squares, one of them either way up.
        count = (2 if isinstance(self.norm, Linf) else 5) + theta.shape[1]
        return random.uniform(random.fold(info.keys, "square", info.step), (AHEAD, count))

    def _corners(self, best: Images, info: StepInfo, u: Tensor, area: float) -> Images:
        side = min(max(round(area**0.5), 1), *best.shape[2:])
        place = window(u[:, 0], u[:, 1], best, side)[:, None].expand(-1, best.shape[1], -1)
        # The pixels of the square alone: late in the budget there are few of them.
        old, center = (v.flatten(2).gather(2, place) for v in (best, info.center))
        down, up = (center - self.eps).clamp_(min=0), (center + self.eps).clamp_(max=1)
        low = (u[:, 2:] < 0.5)[:, :, None]
        new = torch.where(low, down, up)
        idle = (new == old).flatten(1).all(dim=1)[:, None, None]
        new = torch.where(low ^ idle, down, up)
        return best.flatten(2).scatter(2, place, new.to(best.dtype)).reshape(best.shape)

    def _bumps(self, best: Images, info: StepInfo, u: Tensor, area: float) -> Images:
        # Odd, so that the bump has a centre, and at least 3.
        side = max(round(area**0.5), 3) | 1
        limit = min(best.shape[2:])
        side = min(side, limit if limit % 2 else max(limit - 1, 1))
        to, row, column = spots(u[:, 0], u[:, 1], best, side)
        gives, _, _ = spots(u[:, 2], u[:, 3], best, side)
        sign = torch.where(u[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None].to(best.dtype)
        bump = placed(pyramids(side, side, best), row, column, u[:, 4] < 0.5)
        return self._refilled(best - info.center, to, gives, sign * bump) + info.center

    def _refilled(self, delta: Images, to: Tensor, gives: Tensor, bump: Images) -> Images:
        """`delta` with a bump in the square `to`, fed from the square `gives`."""
        norm, weight = self.norm, mass(delta, self.norm)
        left = (self.eps_mass() - weight.sum(dim=(1, 2, 3), keepdim=True)).clamp_(min=0)
        left = left / delta.shape[1] + (weight * (to | gives)).sum(dim=(2, 3), keepdim=True)
        held = of_norm((weight * to).sum(dim=(2, 3), keepdim=True), norm)
        new = bump + delta * to / held.clamp_(min=1e-12)
        length = of_norm(mass(new, norm).sum(dim=(2, 3), keepdim=True), norm)
        new = new * (of_norm(left, norm) / length.clamp_(min=1e-12))
        # Outside the first square the new part is zero.
        after = torch.where(to, new, delta * ~gives)
        length = self.eps * (BEYOND_L1 if norm.name == "l1" else 1.0)
        return after * rows.expand(length / norm.size(after).clamp(min=1e-12), after)

    def eps_mass(self) -> float:
        """The radius as the sum of entries that `mass` gives."""
        return self.eps if self.norm.name == "l1" else self.eps**2


def share(step: int, steps: int, p_init: float) -> float:
    """The share of the image that a square covers: `p_init`, halved along the budget."""
    at = step * 10_000 // steps
    return p_init / 2 ** sum(at > mark for mark in HALVINGS)


def spots(u: Rows, v: Rows, like: Images, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """(mask [n, 1, h, w] of a square of each row, its row offsets [n, h], columns [n, w]).

    `u` and `v` in [0, 1) say where: any place at which the square lies inside the image.
    An offset counts from the square's edge; the square covers the offsets 0..side-1.
    """
    row, down = _along(u, like.shape[2], side)
    column, across = _along(v, like.shape[3], side)
    return (down[:, None, :, None] & across[:, None, None, :]), row, column


def window(u: Rows, v: Rows, like: Images, side: int) -> Tensor:
    """The pixels of a square of each row, [n, side * side], counted along the flat image."""
    h, w = like.shape[2:]
    at = torch.arange(side, device=u.device)
    down, across = _first(u, h, side)[:, None] + at, _first(v, w, side)[:, None] + at
    return (down[:, :, None] * w + across[:, None, :]).flatten(1)


def _first(u: Rows, length: int, side: int) -> Tensor:
    return (u * max(length - side + 1, 1)).to(torch.int64)


def _along(u: Rows, length: int, side: int) -> tuple[Tensor, Tensor]:
    offset = torch.arange(length, device=u.device) - _first(u, length, side)[:, None]
    return offset, (offset >= 0) & (offset < side)
