"""Free adversarial training: every pass serves the weights and the perturbation at once."""

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
    """Each batch is shown `times` times, its perturbation moving by the pass that just was.

    The gradient by the images comes with the parameters' gradient, so crafting costs no pass
    of its own. Train for 1 / `times` of the epochs. Each replay is one optimiser step.

    - `times`: how often a batch is shown (m in the paper)

    The adversary gives the threat; the step of the perturbation is its eps.

    **Source**: Shafahi et al. 2019 (arXiv 1904.12843), Algorithm 1: m = 8 for CIFAR-10.
    **Differs from the paper**: the perturbation begins anew with each batch, at 0, where the
    paper hands it on to the next one; so a batch depends on nothing but the weights.
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
        """Refuses any adversary but PGD's, for its threat."""
        super().check(adversary)
        check_kind(adversary, Adversary, "be a PGD Adversary for Free")

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """The pass of all replays: each call moves the perturbation on."""
        assert adversary is not None
        threat = Threat.parse(adversary.threat).scaled(batch.strength)
        norm, within, x = threat.as_norm("Free"), threat.within(), batch.x
        at = [x]

        def one() -> Tensor:
            shown = at[0].detach().clone().requires_grad_()
            with torch.enable_grad():
                loss = batch.entropy(batch.logits(shown))
            loss.backward()
            assert shown.grad is not None
            moved = shown.detach() + threat.eps * norm.steepest(shown.grad)
            at[0] = within.project(moved, x)
            return loss.detach()

        return one
