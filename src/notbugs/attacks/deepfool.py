"""DeepFool: steps to the nearest boundary of the linearised model until the class changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.losses import column, margin
from notbugs.attacks.minimum import MinimumNorm
from notbugs.core.errors import bad_value, check_count
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractNorm,
    AbstractObjective,
    Box,
    Draw,
    Evaluation,
    OnSuccess,
    SmallestSuccess,
    Solver,
)
from notbugs.engine.deepfool import NearestBoundary
from notbugs.models.decision import misclassified


@final
@dataclass(frozen=True)
class Rivals(AbstractObjective):
    """minus the margin; outputs: the largest other logits minus the true class's, sorted.

    Context: `y` [n], the true classes. At most `candidates` outputs, which limits the
    cost of a step for many classes.
    """

    logits: Callable[[Images], Logits]
    candidates: int

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        z, y = at_least_float32(self.logits(x)), column(context, "y")
        true_logit = z.gather(1, y[:, None])
        others = z.scatter(1, y[:, None], float("-inf"))
        count = min(self.candidates, z.shape[1] - 1)
        gaps = others.topk(count, dim=1).values - true_logit
        return Evaluation(-gaps[:, 0], misclassified(z, y), gaps)


@dataclass(frozen=True)
class DeepFool(MinimumNorm):
    """See `deepfool`."""

    candidates: int = 10

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(what is minimised, its per-row context)."""
        if targets is not None:
            raise bad_value(
                "targets",
                "be left out for DeepFool, which goes to the nearest class",
                f"{len(targets)} targets",
                "Use cw_l2() or ddn() for targeted attacks of least distance.",
            )
        if y is None:
            raise bad_value("y", "be given", None)
        return Rivals(logits, self.candidates), {"y": y}


@takes_norm
def deepfool(
    norm: AbstractNorm,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
) -> DeepFool:
    """An untargeted attack that steps to the nearest linearised boundary until it is crossed.

    At each step, with f_k = Z_k - Z_y and w_k its gradient, for the closest class l in
    |f_k| / ||w_k||_dual:

        x' <- x' + (1 + overshoot) * |f_l| / ||w_l||_dual * steepest(w_l)

    A row stops at its first success, usually after 2 or 3 steps. Each step costs one backward
    pass per candidate.

    - `norm`: L2() as in the paper, Linf(), or L1()
    - `steps`: maximum number
    - `overshoot`: how far beyond the boundary, as a share of the step
    - `candidates`: number of other classes considered, those of largest logits

    **Source**: Moosavi-Dezfooli et al. 2015 (arXiv 1511.04599), Algorithm 2; candidates
    and the overshoot inside the loop as in the authors' code.
    **Differs from the paper**: every step is clamped to the pixel box; candidates are the
    largest logits at the current point; the class to leave is `y`, not the model's prediction.

    **Raises** ValueError for counts below 1, a negative overshoot, or targets.

    >>> from notbugs.engine import L2
    >>> deepfool(L2(), steps=30).name
    'DeepFool-30'
    """
    check_count(steps, "steps")
    check_count(candidates, "candidates")
    solver = Solver(
        within=Box(),
        rule=NearestBoundary(norm, overshoot),
        max_steps=steps,
        keep=SmallestSuccess(norm),
        stop=OnSuccess(),
    )
    return DeepFool(f"DeepFool-{steps}", None, norm, solver, margin, candidates)
