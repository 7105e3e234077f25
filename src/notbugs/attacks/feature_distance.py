"""An attack that maximises the distance of a classifier's embedding from the clean one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Victim
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.latent import code_distance
from notbugs.attacks.losses import column
from notbugs.attacks.result import restarted
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, RowTree
from notbugs.engine import (
    APGD,
    AbstractNorm,
    AbstractObjective,
    AbstractSize,
    Draw,
    Evaluation,
    Solution,
    Solver,
    Threat,
    UniformIn,
)
from notbugs.models.decision import misclassified


@final
@dataclass(frozen=True)
class FeaturesAway(AbstractObjective):
    """-||embedding(x) - clean embedding||_2 of each row; success if misclassified.

    Context: `embedding` [n, d], of the clean images, and `y` [n], the true classes.
    """

    both: Callable[[Images], tuple[Tensor, Tensor]]

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        clean, y = column(context, "embedding"), column(context, "y")
        logits, embedding = self.both(x)
        return Evaluation(-code_distance(embedding, clean), misclassified(logits, y))


@final
@dataclass(frozen=True)
class FeatureDistance(AbstractAttack):
    """A solver that moves the embedding away from the clean one; see `feature_distance`."""

    name: str
    threat: Threat
    solver: Solver
    restarts: int = 1

    @property
    def size(self) -> AbstractSize:
        return self.threat.norm

    @property
    def passes(self) -> int:
        return self.solver.max_steps * self.restarts

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best of all restarts; later ones only run on the rows not yet broken."""
        if inputs.targets is not None or inputs.y is None:
            raise bad_value(
                "targets",
                f"be left out for {self.name}, which has no class to go to",
                "targets",
                "Go to the embedding of an image of that class: "
                "latent(model.embed, x, model.embed(other), norm, eps).",
            )
        with torch.no_grad():
            clean = victim.model.embed(inputs.x)

        def run(restart: int, index: Tensor) -> Solution:
            return self._run(victim, inputs.select(index).again(restart), clean[index])

        best = restarted(self._run(victim, inputs, clean), self.restarts, run)
        return replace(best, forwards=best.forwards + len(inputs.x))

    def _run(self, victim: Victim, inputs: AttackInputs, clean: Tensor) -> Solution:
        assert inputs.y is not None
        context = {"embedding": clean, "y": inputs.y}
        # From a random point: at the image itself the distance has no gradient.
        return self.solver.minimise(
            FeaturesAway(victim.model.both),
            inputs.x,
            context,
            keys=inputs.keys,
            start=UniformIn(),
            observe=inputs.observe,
        )


@takes_norm
def feature_distance(
    norm: AbstractNorm, eps: float, *, steps: int = 100, restarts: int = 1
) -> FeatureDistance:
    """An attack whose loss needs no label: it moves the embedding away from the clean one.

    Maximises ||embed(x') - embed(x)||_2 subject to norm(x' - x) <= eps and 0 <= x' <= 1 by
    Auto-PGD. Of the visited points a misclassified one is returned if there is one.
    To move towards a given embedding use `latent(model.embed, ...)`.

    - `norm`: Linf(), L2() or L1()
    - `eps`: pixel units of [0, 1]
    - `steps`: gradient steps of each restart, from a random point of the ball
    - `restarts`: runs from new random starts, for the rows not yet broken

    **Source**: Naseer et al. 2018 (arXiv 1811.09020): the distance of features as the loss.
    **Differs from the paper**: the distance of the model's embedding layer alone; Auto-PGD.

    **Raises** ValueError for `eps`, `steps` or `restarts` that are not above 0, and when it
    is called with targets.

    >>> from notbugs.engine import Linf
    >>> feature_distance(Linf(), 8 / 255).name
    'Feature-distance-100'
    """
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    threat = Threat(norm, eps)
    solver = Solver(within=threat.within(), rule=APGD(norm, eps), max_steps=steps)
    return FeatureDistance(f"Feature-distance-{steps}", threat, solver, restarts)
