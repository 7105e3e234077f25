"""The state of the active rows in a solve."""

from typing import Any, NamedTuple

from notbugs.core.types import Counts, Images, Keys, Mask, Theta
from notbugs.engine.keep import Kept


class State(NamedTuple):
    """Everything per row, so that rows are dropped and joined together.

    `place` [n] is the index of each row in the batch; `theta` are the variables; `rule` and
    `stop` the states of those parts; `steps` and `zero_grads` count the steps taken and those
    at which the gradient was zero. `done` marks rows that have finished but are not dropped
    yet; None if no row finishes early.
    """

    place: Keys
    theta: Theta
    center: Images
    context: Any
    keys: Keys
    kept: Kept | None
    rule: Any
    stop: Any
    steps: Counts
    zero_grads: Counts
    done: Mask | None
