"""An objective with a limit on every pixel, for Carlini and Wagner's Linf attack."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from notbugs.attacks.cw_objectives import goal, reached
from notbugs.attacks.losses import fine
from notbugs.core import rows
from notbugs.core.types import Images, Logits, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, Linf

ROUNDING = 1e-6


@final
@dataclass(frozen=True)
class WithinLimit(AbstractObjective):
    """f(x') + (1 / c) * sum over pixels of (|x' - x| - limit)+; success also wants no excess.

    Context, per row: `x`, `c`, `limit`, and `y` or `targets`. With `levels`, the image is
    rounded to whole levels before it is judged, and its gradient passes straight through.
    """

    logits: Callable[[Images], Logits]
    form: str
    confidence: float
    levels: int

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        given = {} if context is None else context
        y, targets = given.get("y"), given.get("targets")
        shown = x + (rounded(x, self.levels) - x).detach() if self.levels else x
        z = fine(self.logits(shown))
        change = (x - given["x"]).abs()
        excess = rows.total((change - rows.expand(given["limit"], x)).relu())
        value = goal(self.form, z, y, targets, self.confidence) + excess / given["c"]
        inside = Linf().size(shown.detach() - given["x"]) <= given["limit"] + ROUNDING
        return Evaluation(value, inside & reached(z.detach(), y, targets, self.confidence), z)


def rounded(x: Images, levels: int) -> Images:
    """`x` at the nearest of the values 0, 1/levels, ..., 1."""
    return (x * levels).round() / levels
