"""The result of an attack, and the best of its restarts."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from notbugs.core.types import Counts, Images, Mask, Rows
from notbugs.engine import Solution
from notbugs.engine.solution import better


@dataclass(frozen=True, repr=False)
class AttackResult:
    """Adversarial images, verified on the attacked model.

    - `x_adv` [n, c, h, w]: in [0, 1] and within the threat of `x`
    - `success` [n]: misclassified (untargeted) or classified as the target (targeted), by
      more than half the rounding tolerance (`notbugs.models.decision`)
    - `within_rounding` [n]: the goal is reached, but within the rounding tolerance; ties of
      the label with another class are among these
    - `non_finite` [n]: the logits at `x_adv` are NaN or infinite; neither of the above
    - `already_wrong` [n]: the clean image is misclassified (False without `y`)
    - `distance` [n]: size of x_adv - x in the threat's norm, pixel units of [0, 1]
    - `loss` [n]: the attack's objective at `x_adv` (lower is better for the attacker)
    - `queries`: forward passes per row, averaged over the batch
    - `zero_grads` [n]: steps at which the gradient was exactly zero, over all restarts
    - `steps` [n]: steps taken, over all restarts
    - `gave_up` [n]: not broken, and left before the budget was spent, or at a success that the
      model denied
    - `forwards`, `backwards`: passes summed over rows and restarts
    - `non_finite_points`: number of visited points at which logits were NaN or infinite
    """

    x_adv: Images
    success: Mask
    within_rounding: Mask
    non_finite: Mask
    already_wrong: Mask
    distance: Rows
    loss: Rows
    queries: float
    zero_grads: Counts
    steps: Counts
    gave_up: Mask
    forwards: int
    backwards: int
    non_finite_points: int = 0

    def __repr__(self) -> str:
        broken = self.distance[self.success & ~self.already_wrong]
        n, far = len(broken), float(broken.mean())
        mean = (
            f",\n             mean distance {far:.4g} over the {n} images "
            "that were right and are broken"
        )
        masked = int((self.without_gradient & ~self.success).sum())
        silent = f",\n             no gradient on {masked} unbroken images: it says nothing of them"
        return (
            f"AttackResult(n={len(self.success)}, attack success rate "
            f"{self.attack_success_rate:.2f} %, robust accuracy {self.robust_accuracy:.2f} %"
            f"{mean if n else ''}{silent if masked else ''})"
        )

    @property
    def attack_success_rate(self) -> float:
        """Percent of rows on which the attack reached its goal, 0 to 100."""
        return percent(self.success)

    @property
    def robust(self) -> Mask:
        """Rows that are correct and not broken, without a tie of their label, [n] (untargeted)."""
        return ~(self.success | self.within_rounding | self.non_finite | self.already_wrong)

    @property
    def without_gradient(self) -> Mask:
        """Rows in which at least half of the steps had a zero gradient, [n]."""
        return (self.zero_grads * 2 >= self.steps) & (self.zero_grads > 0)

    @property
    def robust_accuracy(self) -> float:
        """Percent of rows that are correct and not broken, 0 to 100 (untargeted attacks)."""
        return percent(self.robust)


def percent(mask: Mask) -> float:
    """The true entries of `mask` in percent, 0 to 100."""
    return 100 * int(mask.sum()) / max(1, len(mask))


def restarted(first: Solution, restarts: int, run: Callable[[int, Tensor], Solution]) -> Solution:
    """The best of `first` and of restarts 1, 2, ..., which only run on the rows not yet broken.

    - `run`: (number of the restart, rows [m] not yet broken) -> their solution
    """
    best = first
    for restart in range(1, restarts):
        remaining = (~best.success).nonzero()[:, 0]
        if not len(remaining):
            break
        best = better(best, run(restart, remaining), remaining)
    return best
