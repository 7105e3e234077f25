"""Free adversarial training: one pass gives the gradients of weights and perturbation."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from notbugs.core.errors import check_count
from notbugs.engine import Threat
from notbugs.training.adversary import AbstractAdversary, Adversary
from notbugs.training.batch import Batch, Pass
from notbugs.training.objective import AbstractTrainingObjective, check_kind


@final
@dataclass(frozen=True)
class Free(AbstractTrainingObjective):
    """Replays each batch `times` times, updating its perturbation after each pass.

    The gradient by the images comes with the parameters' gradient, so crafting costs no extra
    pass. Train for 1 / `times` of the epochs. Each replay is one optimiser step.

    - `times`: replays of a batch (m in the paper)

    The adversary's threat is used; the step size is its eps.

    **Source**: Shafahi et al. 2019 (arXiv 1904.12843), Algorithm 1: m = 8 for CIFAR-10.
    **Differs from the paper**: the perturbation starts at 0 in each batch, where the paper
    keeps that of the previous batch; so a batch depends on the weights alone.
    """

    times: int = 8

    needs_adversary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count(self.times, "times", 2)

    @property
    def is_one_step(self) -> bool:
        return True

    @property
    def replays(self) -> int:
        return self.times

    def check(self, adversary: AbstractAdversary | None) -> None:
        """Refuses any adversary but PGD, whose threat is used."""
        super().check(adversary)
        check_kind(adversary, Adversary, "be a PGD Adversary for Free")

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """The pass of all replays: each call updates the perturbation."""
        assert adversary is not None
        threat = Threat.parse(adversary.threat).scaled(batch.strength)
        norm, within, x = threat.as_norm("Free"), threat.within(), batch.x
        x_adv = x

        def run() -> Tensor:
            nonlocal x_adv
            leaf = x_adv.detach().clone().requires_grad_()
            with torch.enable_grad():
                loss = batch.entropy(batch.logits(leaf))
            loss.backward()
            assert leaf.grad is not None
            moved = leaf.detach() + threat.eps * norm.steepest(leaf.grad)
            x_adv = within.project(moved, x)
            return loss.detach()

        return run
