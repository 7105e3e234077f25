"""Adversarial logistic regression: the worst case of a linear model in closed form."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core.errors import bad_value
from notbugs.engine import Threat
from notbugs.training.adversary import AbstractAdversary
from notbugs.training.batch import Batch, Pass, through
from notbugs.training.objective import AbstractTrainingObjective


@final
@dataclass(frozen=True)
class WorstCaseLogistic(AbstractTrainingObjective):
    """Mean of log(1 + exp(eps * ||w||_dual - s (w.x + b))), s = +1 or -1 by class, w per pixel.

    The loss of a linear model of two classes at the worst image of the ball, not clipped to
    [0, 1]: w.x + b is the second logit minus the first. For Linf the dual norm is L1.

    - `threat`: the ball

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 5: Linf 0.25 on MNIST's 3s
    and 7s.
    """

    threat: str = "linf:0.25"

    def __post_init__(self) -> None:
        Threat.parse(self.threat).as_norm("adversarial logistic regression")

    def check(self, adversary: AbstractAdversary | None) -> None:
        """Refuses an adversary: the loss is the worst case already."""
        if adversary is not None:
            raise bad_value(
                "adversary", "be left out: the loss is the worst case already", adversary
            )

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """The pass; the weights are the gradient with respect to the pixels."""
        if batch.model.classes != 2:
            raise bad_value("model", "have two classes for this objective", batch.model.classes)
        threat = Threat.parse(self.threat)
        norm, sign = threat.as_norm("adversarial logistic regression"), 2.0 * batch.y - 1

        def loss() -> Tensor:
            x = batch.x.detach().clone().requires_grad_()
            logits = batch.logits(x)
            lead = logits[:, 1] - logits[:, 0]
            (w,) = torch.autograd.grad(lead.sum(), x, create_graph=True)
            if not bool(torch.isclose(w, w[:1], rtol=1e-3, atol=1e-6).all()):
                raise bad_value(
                    "model", "be linear for this objective", "another", "Use Adversary."
                )
            return F.softplus(threat.eps * norm.dual(w) - sign * lead).mean()

        return through(loss)
