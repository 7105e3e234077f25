"""The objective of Carlini and Wagner's Linf attack, with a limit on each pixel's change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from notbugs.attacks.cw_objectives import goal, reached
from notbugs.core import rows
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Logits, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, Linf

ROUNDING = 1e-6


@final
@dataclass(frozen=True)
class WithinLimit(AbstractObjective):
    """f(cut(x')) + (1 / c) * sum over pixels of (|x' - x| - limit)+.

    Context, per row: `x`, `c`, `limit`, and `y` or `targets`. f sees the image as `cut` makes it
    valid, with a straight-through gradient, and success is that image's.
    """

    logits: Callable[[Images], Logits]
    form: str
    confidence: float
    levels: int

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        columns = {} if context is None else context
        y, targets = columns.get("y"), columns.get("targets")
        valid = cut(x.detach(), columns["x"], columns["limit"], self.levels)
        z = at_least_float32(self.logits(x + (valid - x.detach())))
        beyond = excess(x, columns["x"], columns["limit"]) / columns["c"]
        value = goal(self.form, z, y, targets, self.confidence) + beyond
        inside = Linf().size(valid - columns["x"]) <= columns["limit"] + ROUNDING
        return Evaluation(value, inside & reached(z.detach(), y, targets, self.confidence), z)


def excess(x: Images, origin: Images, limit: Rows) -> Rows:
    """The sum over pixels of (|x - origin| - limit)+, [n]."""
    return rows.total(((x - origin).abs() - rows.expand(limit, x)).relu())


def cut(x: Images, origin: Images, limit: Rows, levels: int) -> Images:
    """`x` with each pixel within its row's `limit` of `origin` and, with `levels`, whole levels."""
    bound = rows.expand(limit, x)
    x = origin + (x - origin).clamp(-bound, bound)
    return (x * levels).round() / levels if levels else x
