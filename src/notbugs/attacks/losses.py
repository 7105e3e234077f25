"""Attack losses as objectives, with the loss separate from the criterion of success."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core.errors import bad_value
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Labels, Logits, Mask, Rows, RowTree
from notbugs.engine import AbstractObjective, Derivative, Draw, Evaluation, OfOutputs
from notbugs.engine.objective import mean
from notbugs.models.decision import classified_as, margin, misclassified

ValueOfLogits: TypeAlias = Callable[[Logits, Labels], Rows]
"""(logits [n, k], class indices [n]) -> loss, [n]: high if the row is far from that class."""


def cross_entropy(logits: Logits, classes: Labels) -> Rows:
    """-log softmax(logits) at the given classes, [n] (nats). High: far from the class."""
    return F.cross_entropy(at_least_float32(logits), classes, reduction="none")


def entropy_slope(classes: Labels, sign: float) -> Callable[[Logits], Logits]:
    """The derivative of sign * `cross_entropy` by the logits: sign * (softmax - one-hot).

    `sign` is 1 or -1.
    """
    one_hot: list[Logits] = []

    def slope(logits: Logits) -> Logits:
        z = at_least_float32(logits)
        if not one_hot:
            one_hot.append(F.one_hot(classes, z.shape[1]).to(z.dtype))
        # Not through log_softmax, as in autograd: this saves an operation.
        p = torch.softmax(z, dim=1)
        derivative = one_hot[0] - p if sign < 0 else p.sub_(one_hot[0])
        return derivative.to(logits.dtype)

    return slope


@dataclass(frozen=True)
class OfLogits(OfOutputs):
    """An objective whose outputs are the logits."""

    logits: Callable[[Images], Logits]

    def outputs_of(self, x: Images) -> Logits:
        return self.logits(x)


@final
@dataclass(frozen=True)
class Untargeted(OfLogits):
    """Untargeted: minimise -loss(logits(x), y); success if `misclassified`.

    Context: `y` [n], the true classes.
    """

    loss: ValueOfLogits = cross_entropy

    def value_of(self, outputs: Logits, context: RowTree | None) -> Rows:
        return -self.loss(outputs, column(context, "y"))

    def success_of(self, outputs: Logits, context: RowTree | None) -> Mask:
        return misclassified(outputs, column(context, "y"))

    def derivative(self, context: RowTree | None) -> Derivative | None:
        return entropy_slope(column(context, "y"), -1.0) if self.loss is cross_entropy else None


@final
@dataclass(frozen=True)
class Targeted(OfLogits):
    """Targeted: minimise loss(logits(x), targets); success if `classified_as` them.

    Context: `targets` [n], the target classes.
    """

    loss: ValueOfLogits = cross_entropy

    def value_of(self, outputs: Logits, context: RowTree | None) -> Rows:
        return self.loss(outputs, column(context, "targets"))

    def success_of(self, outputs: Logits, context: RowTree | None) -> Mask:
        return classified_as(outputs, column(context, "targets"))

    def derivative(self, context: RowTree | None) -> Derivative | None:
        targets = column(context, "targets")
        return entropy_slope(targets, 1.0) if self.loss is cross_entropy else None


@final
@dataclass(frozen=True)
class UntargetedByTarget(OfLogits):
    """Untargeted, towards a class: minimise loss(logits(x), y, targets); success if not y.

    Context: `y` [n], the true classes, and `targets` [n], the target classes. Any wrong
    prediction is a success, as in the targeted attacks of AutoAttack.
    """

    loss: "PairwiseLoss"

    def value_of(self, outputs: Logits, context: RowTree | None) -> Rows:
        return self.loss(outputs, column(context, "y"), column(context, "targets"))

    def success_of(self, outputs: Logits, context: RowTree | None) -> Mask:
        return misclassified(outputs, column(context, "y"))


@final
@dataclass(frozen=True)
class Averaged(AbstractObjective):
    """The mean of an objective over passes of a randomised model.

    A row succeeds where it does in more than half of the passes.

    **Source**: Athalye et al. 2018 (arXiv 1707.07397), expectation over transformation.
    """

    objective: AbstractObjective
    samples: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        evaluations = [self.objective(x, context, Draw(draw.at(i))) for i in range(self.samples)]
        successes = [e.success for e in evaluations if e.success is not None]
        success = torch.stack(successes).float().mean(dim=0) > 0.5 if successes else None
        return mean(evaluations)._replace(success=success)


def averaged(objective: AbstractObjective, samples: int) -> AbstractObjective:
    """The objective itself for one sample, else its average."""
    return objective if samples == 1 else Averaged(objective, samples)


PairwiseLoss: TypeAlias = Callable[[Logits, Labels, Labels], Rows]
"""(logits [n, k], true classes [n], targets [n]) -> value to minimise, [n]."""


def difference(logits: Logits, y: Labels, targets: Labels) -> Rows:
    """The true class's logit minus the target's, [n]. Negative: misclassified."""
    return (logits.gather(1, y[:, None]) - logits.gather(1, targets[:, None]))[:, 0]


def dlr(logits: Logits, classes: Labels) -> Rows:
    """Difference of logits ratio, [n]: -(z_y - largest other) / (z_first - z_third).

    High: far from the class; invariant to the scale of the logits. At least 3 classes.

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), equation 6.
    """
    top = logits.topk(3, dim=1).values
    return margin(logits, classes) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Logits, y: Labels, targets: Labels) -> Rows:
    """(z_y - z_t) / (z_first - (z_third + z_fourth) / 2), [n], to minimise. At least 4 classes.

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), equation 7.
    """
    top = logits.topk(4, dim=1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return difference(logits, y, targets) / (scale + 1e-12)


def column(context: RowTree | None, name: str) -> Tensor:
    """The per-row tensor `name` of a context, or a KeyError that names it."""
    if context is None or name not in context:
        raise KeyError(f"This objective needs the per-row tensor '{name}' in its context.")
    return context[name]


def least_classes(loss: object) -> int:
    """The fewest classes that a loss of this module is defined for."""
    return 3 if loss is dlr else 2


def check_aimed(loss: object) -> None:
    """Refuses a loss that is not suited to a target."""
    if loss is dlr:
        raise bad_value(
            "loss",
            "be defined for targets",
            "dlr, which is constant where the target ranks third",
            "Use margin or cross_entropy; apgd_targeted for the targeted DLR loss.",
        )


def aimed(
    logits: Callable[[Images], Logits],
    loss: ValueOfLogits,
    y: Labels | None,
    targets: Labels | None,
) -> tuple[AbstractObjective, RowTree]:
    """(`Targeted` with `targets` if they are given, else `Untargeted` with `y`; its context)."""
    if targets is not None:
        check_aimed(loss)
        return Targeted(logits, loss), {"targets": targets}
    if y is None:
        raise bad_value("y", "be given without `targets`", None)
    return Untargeted(logits, loss), {"y": y}
