"""Adversaries, which perturb the training images: the interface, and PGD."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack, Attack, cross_entropy, fgsm, pgd
from notbugs.attacks.losses import OfLogits, column, entropy_slope
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Logits, Mask, Rows, RowTree
from notbugs.engine import (
    AbstractObjective,
    AbstractStart,
    AtCenter,
    Derivative,
    LowestValue,
    Threat,
    UniformIn,
)
from notbugs.judge import evaluation_pgd
from notbugs.training.batch import Batch, Forward


@dataclass(frozen=True)
class AbstractAdversary(ABC):
    """Perturbs a batch of training images.

    - `threat`: written `norm:eps`, e.g. "l2:0.5" (pixel units of [0, 1])
    - `eps_warmup`: share of the epochs over which eps (and the step) grows to its full
      size; a full adversary from the first step can leave small nets at chance
    """

    threat: str = "l2:0.5"
    eps_warmup: float = 0.0

    compiles: ClassVar[bool] = True
    """Whether it works with a model compiled by `torch.compile`."""

    def __post_init__(self) -> None:
        Threat.parse(self.threat)
        if not 0 <= self.eps_warmup < 1:
            raise bad_value("eps_warmup", "lie in [0, 1)", self.eps_warmup)

    def strength(self, epoch: int, epochs: int) -> float:
        """The share of eps used in epoch 0..epochs-1, in (0, 1]."""
        return min(1.0, (epoch + 1) / (self.eps_warmup * epochs)) if self.eps_warmup else 1.0

    @property
    def passes(self) -> int:
        """About how many forward and backward passes the perturbation of an image takes."""
        return 1

    @property
    def is_one_step(self) -> bool:
        """Whether it takes a single gradient step, so that catastrophic overfitting is possible."""
        return False

    def measured_by(self, threat: Threat) -> AbstractAttack:
        """The attack that measures held-out robustness in training: PGD of 10 steps."""
        return evaluation_pgd(threat, steps=10)

    @abstractmethod
    def perturbed(self, batch: Batch) -> Forward:
        """A function that returns the logits of the batch, which is perturbed in this call."""


def shown(batch: Batch, adversary: AbstractAdversary | None) -> Forward:
    """The logits of the perturbed batch, or of the clean one where there is no adversary."""
    return (lambda: batch.logits(batch.x)) if adversary is None else adversary.perturbed(batch)


@dataclass(frozen=True)
class AbstractImageAdversary(AbstractAdversary):
    """An adversary whose perturbation gives images."""

    @abstractmethod
    def images(self, batch: Batch) -> Images:
        """The perturbed images, within [0, 1], without a graph."""

    def perturbed(self, batch: Batch) -> Forward:
        """The logits of those images."""
        x = self.images(batch)
        return lambda: batch.logits(x)


@final
@dataclass(frozen=True)
class Entropy(OfLogits):
    """minus the cross-entropy of the true classes. Context: `y` [n].

    `success_of` is constant: it is not used in training, and would cost time at every step.
    """

    def value_of(self, outputs: Tensor, context: RowTree | None) -> Rows:
        return -cross_entropy(outputs, column(context, "y"))

    def success_of(self, outputs: Tensor, context: RowTree | None) -> Mask:
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)

    def derivative(self, context: RowTree | None) -> Derivative:
        return entropy_slope(column(context, "y"), -1.0)


@dataclass(frozen=True)
class Adversary(AbstractImageAdversary):
    """PGD within a threat.

    - `threat`: written `norm:eps`, e.g. "l2:0.5" (pixel units of [0, 1])
    - `steps`; `step_size` None means 2.5 * eps / steps
    - `random_start`: start at a random point of the ball, not at the image
    - `eps_warmup`: share of the epochs over which eps (and the step) grows to its full
      size; a full adversary from the first step can leave small nets at chance
    - `train_mode`: craft with the model in train mode (BatchNorm uses batch statistics
      but its running ones are not updated); eval mode otherwise

    **Source**: Madry et al. 2017 (arXiv 1706.06083), section 2.1. The warm-up is ours.
    """

    steps: int = 7
    step_size: float | None = None
    random_start: bool = True
    train_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.steps, "steps")
        if self.step_size is not None:
            check_positive(self.step_size, "step_size", "None means 2.5 * eps / steps.")

    @property
    def passes(self) -> int:
        return self.steps

    @property
    def is_one_step(self) -> bool:
        return self.steps == 1

    def attack(self, strength: float = 1.0) -> Attack:
        """The PGD attack at a share `strength` of eps; it keeps the iterate of lowest objective."""
        threat, size = Threat.parse(self.threat).scaled(strength), self.step_size
        return pgd(
            threat.as_norm("PGD"),
            threat.eps,
            steps=self.steps,
            step_size=2.5 * threat.eps / self.steps if size is None else strength * size,
            random_start=self.random_start,
            keep=LowestValue(),
        )

    def images(self, batch: Batch) -> Images:
        """The iterates of highest cross-entropy."""
        start = UniformIn() if self.random_start else AtCenter()
        return self.minimised(batch, Entropy, {"y": batch.y}, start)

    def stepped(self, batch: Batch, grad: Images) -> Images:
        """The images after one step along `grad`, the gradient of cross-entropy at the images."""
        threat = Threat.parse(self.threat).scaled(batch.strength)
        # The default step of 2.5 eps would be projected back to eps.
        size = threat.eps if self.step_size is None else batch.strength * self.step_size
        move = size * threat.as_norm("PGD").steepest(grad)
        return threat.within().project(batch.x + move, batch.x)

    def minimised(
        self,
        batch: Batch,
        objective: Callable[[Callable[[Images], Logits]], AbstractObjective],
        context: RowTree,
        start: AbstractStart,
    ) -> Images:
        """The iterates of lowest `objective(logits)` by PGD from `start`."""
        solver = self.attack(batch.strength).solver
        with batch.crafting(training=self.train_mode) as logits:
            minimised = objective(logits)
            return solver.minimise(minimised, batch.x, context, keys=batch.keys, start=start).x


@final
@dataclass(frozen=True)
class FastGradient(Adversary):
    """One full step from the image, in train mode: FGSM, by which its robustness is measured too.

    - `threat`: written `norm:eps`

    Held-out robust accuracy is under FGSM as well, as in 2014: it says nothing of stronger attacks.

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 6, with the objective `Mixed`.
    """

    threat: str = "linf:0.25"
    steps: int = 1
    random_start: bool = False
    train_mode: bool = True

    def measured_by(self, threat: Threat) -> AbstractAttack:
        """FGSM."""
        return fgsm(threat.as_norm("FGSM"), threat.eps)
