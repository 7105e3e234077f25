"""MART: adversarial training with more weight on misclassified images."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from notbugs.core.errors import check_positive
from notbugs.training.adversary import AbstractAdversary, AbstractImageAdversary
from notbugs.training.batch import Batch, Pass, through
from notbugs.training.objective import AbstractTrainingObjective, check_kind
from notbugs.training.trades import divergence

TINY = 1e-12


@final
@dataclass(frozen=True)
class Mart(AbstractTrainingObjective):
    """BCE(p', y) + weight * mean of KL(p || p') * (1 - p_y), p' at the perturbed image.

        BCE(p', y) = -log p'_y - log(1 - max over k != y of p'_k)

    - `weight`: of the divergence, which counts most where the clean image is misclassified

    **Source**: Wang et al. 2020 (ICLR, "Improving adversarial robustness requires revisiting
    misclassified examples"), eq. 10 and 12: weight 5 (6 in the authors' code), PGD-10.
    """

    weight: float = 5.0

    needs_adversary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self.weight, "weight")

    def check(self, adversary: AbstractAdversary | None) -> None:
        """Refuses an adversary that gives no images."""
        super().check(adversary)
        check_kind(adversary, AbstractImageAdversary, "give images for MART")

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """Crafts the images."""
        assert isinstance(adversary, AbstractImageAdversary)
        x_adv = adversary.images(batch)

        def loss() -> Tensor:
            clean, adversarial = batch.logits(batch.x), batch.logits(x_adv)
            column = batch.y[:, None]
            p, q = clean.softmax(dim=1), adversarial.softmax(dim=1)
            rival = q.scatter(1, column, 0.0).amax(dim=1)
            bce = batch.entropy(adversarial) - (1 - rival).clamp(min=TINY).log().mean()
            kl = divergence(adversarial, clean.log_softmax(dim=1))
            return bce + self.weight * (kl * (1 - p.gather(1, column)[:, 0])).mean()

        return through(loss)
