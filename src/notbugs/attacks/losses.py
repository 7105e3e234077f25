"""Attack losses as objectives: what is climbed is separate from what counts as a success."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Labels, Logits, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation

ValueOfLogits: TypeAlias = Callable[[Logits, Tensor], Rows]
"""(logits [n, k], class indices [n]) -> how strongly each row is held in that class, [n]."""


def cross_entropy(logits: Logits, classes: Tensor) -> Rows:
    """-log softmax(logits) at the given classes, [n] (nats). High: far from the class."""
    return F.cross_entropy(
        logits.float() if logits.itemsize < 4 else logits, classes, reduction="none"
    )


def margin(logits: Logits, classes: Tensor) -> Rows:
    """Largest other logit minus the class's own, [n]. Positive: classified otherwise.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), f6 without its floor.
    """
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return others.amax(dim=1) - own


@final
@dataclass(frozen=True)
class Away(AbstractObjective):
    """Untargeted: minimise -loss(logits(x), y); success where the prediction is not y.

    Context: `y` [n], the true classes.
    """

    logits: Callable[[Images], Logits]
    loss: ValueOfLogits = cross_entropy

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        z, y = self.logits(x), _column(context, "y")
        return Evaluation(-self.loss(z, y), z.detach().argmax(dim=1) != y, z)


@final
@dataclass(frozen=True)
class Towards(AbstractObjective):
    """Targeted: minimise loss(logits(x), targets); success where the prediction is the target.

    Context: `targets` [n], the wanted classes.
    """

    logits: Callable[[Images], Logits]
    loss: ValueOfLogits = cross_entropy

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        z, targets = self.logits(x), _column(context, "targets")
        return Evaluation(self.loss(z, targets), z.detach().argmax(dim=1) == targets, z)


def _column(context: RowTree | None, name: str) -> Tensor:
    if context is None or name not in context:
        raise KeyError(f"This objective needs the per-row tensor '{name}' in its context.")
    return context[name]


def predicted_clean(logits: Callable[[Images], Logits], x: Images) -> Labels:
    """The predicted class of each clean image, [n], computed without gradients.

    **Raises** ValueError where the model gives NaN: what breaks such a model says nothing.
    """
    with torch.no_grad():
        classes = predicted(logits(x))
    if bool((classes < 0).any()):
        raise bad_value(
            "model",
            "give finite logits for clean images",
            f"NaN, first in row {int((classes < 0).nonzero()[0, 0])}",
            "Its weights may come from a training that diverged: load or train another.",
        )
    return classes


def predicted(logits: Logits) -> Labels:
    """The predicted class of each row, [n]; a row of NaN counts as class -1."""
    return torch.where(logits.isnan().any(dim=1), -1, logits.argmax(dim=1))
