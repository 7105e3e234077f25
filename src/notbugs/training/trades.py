"""TRADES: accuracy on the images, and agreement with it on their neighbours."""

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
"""Standard deviation of the noise from which the neighbour is sought: at the image itself the
divergence is 0 and has no gradient."""


def divergence(logits: Logits, said: Tensor) -> Tensor:
    """KL(said || softmax(logits)) of each row (nats), [n]; `said` are log-probabilities."""
    return F.kl_div(logits.log_softmax(dim=1), said, reduction="none", log_target=True).sum(dim=1)


@final
@dataclass(frozen=True)
class Agreement(AbstractObjective):
    """minus the divergence from what the model `said` of the image. Context: `said` [n, k]."""

    logits: Callable[[Images], Logits]

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        assert context is not None
        return Evaluation(-divergence(self.logits(x), context["said"]))


@final
@dataclass(frozen=True)
class Trades(AbstractTrainingObjective):
    """J(x) + beta * KL(f(x) || f(x')), x' the neighbour at which f differs most from f(x).

    The neighbour is sought by the steps of the adversary, from the image and a little noise.

    - `beta`: weight of agreement

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
        """Finds the neighbours."""
        assert isinstance(adversary, Adversary)
        with batch.crafting(training=adversary.train_mode) as logits, torch.no_grad():
            said = logits(batch.x).log_softmax(dim=1)
        noise = START * random.normal(
            random.fold(batch.keys, "trades"), batch.x.shape[1:], batch.x.dtype
        )
        start = FromImages((batch.x + noise).clamp(0, 1))
        found = adversary.lowered(batch, Agreement, {"said": said}, start)

        def loss() -> Tensor:
            clean = batch.logits(batch.x)
            apart = divergence(batch.logits(found), clean.log_softmax(dim=1)).mean()
            return batch.entropy(clean) + self.beta * apart

        return through(loss)
