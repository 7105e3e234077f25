"""Training objectives: the loss that a training step minimises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from notbugs.core.errors import bad_value
from notbugs.training.adversary import AbstractAdversary, Adversary, shown
from notbugs.training.batch import Batch, Pass, through


@dataclass(frozen=True)
class AbstractTrainingObjective(ABC):
    """Makes the forward and backward pass of a training step from a batch and an adversary.

    `prepared` crafts the perturbation; the pass may then run several times at different
    weights (as in adversarial weight perturbation).
    """

    needs_adversary: ClassVar[bool] = False

    @property
    def is_one_step(self) -> bool:
        """Whether the objective itself crafts by single gradient steps."""
        return False

    @property
    def replays(self) -> int:
        """Optimiser steps on each batch."""
        return 1

    def check(self, adversary: AbstractAdversary | None) -> None:
        """Refuses an unsuitable adversary, and None where one is needed."""
        if self.needs_adversary and adversary is None:
            raise bad_value("adversary", f"be given for {type(self).__name__}", None)

    @abstractmethod
    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """The pass over the batch."""


@final
@dataclass(frozen=True)
class Plain(AbstractTrainingObjective):
    """Cross-entropy of the images, or of the perturbed images where there is an adversary.

    - `smoothing`: share of each label that is spread evenly over all classes. **Source**: Szegedy
      et al. 2015 (arXiv 1512.00567), section 7.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise bad_value("smoothing", "lie in [0, 1)", self.smoothing)

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """Crafts the images."""
        forward = shown(batch, adversary)
        return through(lambda: batch.entropy(forward(), self.smoothing))


@final
@dataclass(frozen=True)
class Mixed(AbstractTrainingObjective):
    """alpha * J(x) + (1 - alpha) * J(perturbed x), with J the cross-entropy.

    If the adversary is a single step from the clean image in train mode, its gradient and the
    parameters' come from one pass: two passes per step instead of three.

    - `alpha`: 0..1, the weight of the clean images

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 6: alpha 0.5, FGSM.
    """

    alpha: float = 0.5

    needs_adversary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise bad_value("alpha", "lie in [0, 1]", self.alpha)

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """Crafts the images, unless the pass itself does."""
        assert adversary is not None
        if isinstance(adversary, Adversary) and _is_one_clean_step(adversary) and self.alpha > 0:
            return self._shared(batch, adversary)
        forward = adversary.perturbed(batch)
        return through(
            lambda: (
                self.alpha * batch.entropy(batch.logits(batch.x))
                + (1 - self.alpha) * batch.entropy(forward())
            )
        )

    def _shared(self, batch: Batch, adversary: Adversary) -> Pass:
        def run() -> torch.Tensor:
            x = batch.x.detach().clone().requires_grad_()
            with torch.enable_grad():
                clean = self.alpha * batch.entropy(batch.logits(x))
            clean.backward()
            assert x.grad is not None
            x_adv = adversary.stepped(batch, x.grad)
            with torch.enable_grad():
                adversarial = (1 - self.alpha) * batch.entropy(batch.logits(x_adv))
            adversarial.backward()
            return clean.detach() + adversarial.detach()

        return run


def _is_one_clean_step(adversary: Adversary) -> bool:
    return adversary.steps == 1 and not adversary.random_start and adversary.train_mode


def check_kind(
    adversary: AbstractAdversary | None, kind: type[AbstractAdversary], wanted: str
) -> None:
    """Refuses an adversary of another kind; `wanted` completes "`adversary` must"."""
    if not isinstance(adversary, kind):
        raise bad_value("adversary", wanted, type(adversary).__name__)
