"""Universal perturbations: one perturbation that fools a model on most images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.losses import (
    ValueOfLogits,
    check_aimed,
    cross_entropy,
    least_classes,
)
from notbugs.attacks.neighbours import check_rows
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_labels, check_positive
from notbugs.core.types import Images, Labels, Logits
from notbugs.engine import AbstractNorm, Threat
from notbugs.engine.norms import check_norm
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.decision import predicted
from notbugs.models.predictions import clean_logits
from notbugs.models.validation import check_gradients, check_loss


@dataclass(frozen=True)
class Universal:
    """One perturbation for all images.

    - `delta` [1, c, h, w]: within the threat; added to an image, which is then clamped
    - `fooling_rate`: percent, 0 to 100, of the training images whose prediction it changes, or
      with a target, that are classified as the target
    - `forwards`, `backwards`: passes, summed over images
    """

    delta: Float[Tensor, "1 c h w"]
    fooling_rate: float
    threat: Threat
    forwards: int
    backwards: int

    def apply(self, x: Images) -> Images:
        """`x` [n, c, h, w] with the perturbation, in [0, 1]."""
        return (x + self.delta.to(x)).clamp(0, 1)


@dataclass(frozen=True)
class _Goal:
    """The goal of the perturbation: a model, and labels to leave or a class to reach."""

    logits: Callable[[Images], Logits]
    loss: ValueOfLogits
    most_loss: float
    target: int | None

    def gradient(self, delta: Tensor, x: Images, y: Labels) -> Tensor:
        """The gradient of the loss to minimise, summed over a batch, [1, c, h, w]."""
        leaf = delta.detach().requires_grad_()
        with torch.enable_grad():
            z = self.logits((x + leaf).clamp(0, 1))
            if self.target is None:
                value = -self.loss(z, y).clamp(max=self.most_loss)
            else:
                value = self.loss(z, torch.full_like(y, self.target))
            return torch.autograd.grad(value.sum(), leaf)[0]

    def reached(self, delta: Tensor, x: Images, before: Labels) -> Tensor:
        after = predicted(self.logits((x + delta).clamp(0, 1)))
        if self.target is not None:
            return after == self.target
        # Ties and logits that are not finite are no prediction, so they never count as fooled.
        return (after != before) & (after >= 0) & (before >= 0)


@takes_norm
@prepared("x")
def universal(
    model: Classifier,
    x: Images,
    norm: AbstractNorm,
    eps: float,
    *,
    y: Tensor | None = None,
    target: int | None = None,
    epochs: int = 10,
    batch: int = 128,
    step_size: float | None = None,
    loss: ValueOfLogits = cross_entropy,
    most_loss: float = 9.0,
    seed: int = 0,
) -> Universal:
    """One perturbation that fools `model` on as many rows of `x` as it can.

    Approximates: maximise over norm(d) <= eps the sum over images of
    min(loss(logits(clamp(x + d)), y), most_loss), by projected steepest steps on batches.
    The limit keeps broken images from dominating the gradient.

    - `x` [n, c, h, w] in [0, 1]: the training images; test it on others
    - `norm`: Linf(), L2() or L1()
    - `eps`, `step_size`: pixel units of [0, 1]; without `step_size`, eps / 5. The step
      size decays linearly to zero over the epochs.
    - `y` [n]: classes to leave; without it, the model's own predictions, as in the
      definition of the fooling rate
    - `target`: a class for all images; the loss is then minimised, without limit
    - `epochs`, `batch`: passes over the images, images per step
    - `loss`: (logits, classes) -> [n], high if a row is far from its class
    - `most_loss`: nats with the default loss
    - `seed`: of the order of the images

    The perturbation of the best fooling rate at the end of an epoch is returned. All
    images form one problem here, so the result depends on the whole batch.

    **Source**: Shafahi et al. 2018 (arXiv 1811.11304), section 3 (equation 3 and Algorithm
    1); the problem is from Moosavi-Dezfooli et al. 2016 (arXiv 1610.08401).
    **Differs from the paper**: steepest steps with a decaying step size, not
    SGD or Adam with a constant one; the best epoch is returned; images are clamped.

    **Raises** ValueError for images outside [0, 1], labels or a target out of range,
    `eps`, `step_size`, `most_loss`, `epochs` or `batch` not above 0, a size that is not a
    norm, and a model that every attack refuses.

    >>> from notbugs.engine import Linf
    >>> from notbugs.models import build
    >>> model = build("linear", shape=(1, 2, 2), classes=2, seed=0)
    >>> result = universal(model, torch.rand(4, 1, 2, 2), Linf(), 0.1, epochs=1)
    >>> result.delta.shape
    torch.Size([1, 1, 2, 2])
    """
    check_norm(norm)
    threat = Threat(norm, eps)
    _check(model, x, y, target, epochs, batch)
    check_loss(model.classes, least_classes(loss), "universal")
    if target is not None:
        check_aimed(loss)
    size = eps / 5 if step_size is None else step_size
    check_positive(size, "step_size")
    check_positive(most_loss, "most_loss")
    with frozen(model), torch.no_grad():
        logits = clean_logits(model, x)
        check_rows(model, x, logits)
        check_gradients(model, x[:1], "universal")
        goal = _Goal(model.logits, loss, most_loss, target)
        classes = logits.argmax(dim=1) if y is None else y.long()
        before = predicted(logits)
        return _trained(goal, threat, norm, x, classes, before, epochs, batch, size, seed)


def _check(
    model: Classifier, x: Tensor, y: Tensor | None, target: int | None, epochs: int, batch: int
) -> None:
    if y is not None:
        check_labels(y, rows=len(x), classes=model.classes)
    if target is not None and not 0 <= target < model.classes:
        raise bad_value("target", f"lie in 0..{model.classes - 1}", target)
    check_count(epochs, "epochs")
    check_count(batch, "batch")


def _trained(
    goal: _Goal,
    threat: Threat,
    norm: AbstractNorm,
    x: Images,
    y: Labels,
    before: Labels,
    epochs: int,
    batch: int,
    step_size: float,
    seed: int,
) -> Universal:
    best = delta = torch.zeros_like(x[:1])
    radius = delta.new_full((1,), threat.eps)
    rate = _rate(goal, best, x, before, batch)
    for epoch in range(epochs):
        length = step_size * (1 - epoch / epochs)
        order = torch.randperm(len(x), generator=random.generator(seed, "universal", epoch))
        for index in order.to(x.device).split(batch):
            grad = goal.gradient(delta, x[index], y[index])
            delta = norm.project(delta - length * norm.steepest(grad), radius)
        new_rate = _rate(goal, delta, x, before, batch)
        if new_rate > rate:
            best, rate = delta, new_rate
    # Clean predictions, the rate of no change, and for each epoch its steps and its rate.
    forwards = len(x) * (2 * epochs + 2)
    return Universal(best, rate, threat, forwards, len(x) * epochs)


def _rate(goal: _Goal, delta: Tensor, x: Images, before: Labels, batch: int) -> float:
    batches = zip(x.split(batch), before.split(batch), strict=True)
    parts = [goal.reached(delta, images, labels) for images, labels in batches]
    return percent(torch.cat(parts))
