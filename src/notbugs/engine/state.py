"""The rows at work in a solve."""

from typing import Any, NamedTuple

from notbugs.core.types import Counts, Images, Keys, Mask, Theta
from notbugs.engine.keep import Kept


class State(NamedTuple):
    """Everything that belongs to a row at work, so that it is cut and joined together.

    `place` [n] says which row of the batch each is; `theta` are the variables; `rule` and
    `stop` the states of those parts; `steps` and `zero_grads` count the steps taken and those
    at which the gradient was zero. `done` marks rows that have finished but were not cut off
    yet; None where none ever finishes.
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
