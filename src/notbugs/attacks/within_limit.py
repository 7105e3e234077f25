"""The objective of Carlini and Wagner's Linf attack, with a limit on each pixel's change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from notbugs.attacks.cw_objectives import goal, reached
from notbugs.core import rows
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Logits, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, Linf

ROUNDING = 1e-6


@final
@dataclass(frozen=True)
class WithinLimit(AbstractObjective):
    """f(x') + (1 / c) * sum over pixels of (|x' - x| - limit)+; success also requires no excess.

    Context, per row: `x`, `c`, `limit`, and `y` or `targets`. With `levels`, the image is
    rounded to whole levels first, with a straight-through gradient.
    """

    logits: Callable[[Images], Logits]
    form: str
    confidence: float
    levels: int

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        columns = {} if context is None else context
        y, targets = columns.get("y"), columns.get("targets")
        x_rounded = x + (rounded(x, self.levels) - x).detach() if self.levels else x
        z = at_least_float32(self.logits(x_rounded))
        change = (x - columns["x"]).abs()
        excess = rows.total((change - rows.expand(columns["limit"], x)).relu())
        value = goal(self.form, z, y, targets, self.confidence) + excess / columns["c"]
        inside = Linf().size(x_rounded.detach() - columns["x"]) <= columns["limit"] + ROUNDING
        return Evaluation(value, inside & reached(z.detach(), y, targets, self.confidence), z)


def rounded(x: Images, levels: int) -> Images:
    """`x` at the nearest of the values 0, 1/levels, ..., 1."""
    return (x * levels).round() / levels
