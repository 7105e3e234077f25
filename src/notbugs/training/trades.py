"""TRADES: cross-entropy on clean images, plus divergence on perturbed ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import check_positive
from notbugs.core.types import Images, Logits, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, FromImages
from notbugs.training.adversary import AbstractAdversary, Adversary
from notbugs.training.batch import Batch, Pass, through
from notbugs.training.objective import AbstractTrainingObjective, check_kind

START = 1e-3
"""Standard deviation of the noise at the start: at the image itself the gradient is 0."""


def divergence(logits: Logits, clean: Tensor) -> Tensor:
    """KL(clean || softmax(logits)) of each row (nats), [n]; `clean` are log-probabilities."""
    return F.kl_div(logits.log_softmax(dim=1), clean, reduction="none", log_target=True).sum(dim=1)


@final
@dataclass(frozen=True)
class Agreement(AbstractObjective):
    """minus the divergence from the log-probabilities at the image. Context: `clean` [n, k]."""

    logits: Callable[[Images], Logits]

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        assert context is not None
        return Evaluation(-divergence(self.logits(x), context["clean"]))


@final
@dataclass(frozen=True)
class Trades(AbstractTrainingObjective):
    """J(x) + beta * KL(f(x) || f(x')), x' in the ball with f most different from f(x).

    x' is found by the adversary's PGD steps from the image plus small noise.

    - `beta`: weight of the divergence

    **Source**: Zhang et al. 2019 (arXiv 1901.08573), Algorithm 1 and eq. 5: beta 6 (there
    1 / lambda), Linf 0.031, 10 steps of 0.007, crafted in eval mode.
    """

    beta: float = 6.0

    needs_adversary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self.beta, "beta")

    def check(self, adversary: AbstractAdversary | None) -> None:
        """Refuses any adversary but PGD, whose steps it takes."""
        super().check(adversary)
        check_kind(adversary, Adversary, "be a PGD Adversary for TRADES")

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """Crafts the perturbed images."""
        assert isinstance(adversary, Adversary)
        with batch.crafting(training=adversary.train_mode) as logits, torch.no_grad():
            clean = logits(batch.x).log_softmax(dim=1)
        noise = START * random.normal(
            random.fold(batch.keys, "trades"), batch.x.shape[1:], batch.x.dtype
        )
        start = FromImages((batch.x + noise).clamp(0, 1))
        x_adv = adversary.minimised(batch, Agreement, {"clean": clean}, start)

        def loss() -> Tensor:
            logits = batch.logits(batch.x)
            kl = divergence(batch.logits(x_adv), logits.log_softmax(dim=1)).mean()
            return batch.entropy(logits) + self.beta * kl

        return through(loss)
