"""The smallest of several budgets at which an attack succeeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.cw_common import unchanged
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fgsm import fgsm
from notbugs.attacks.fixed import Attack
from notbugs.core.errors import bad_value
from notbugs.engine import AbstractNorm, AbstractSize, Solution
from notbugs.engine.norms import check_norm
from notbugs.engine.solution import resumed

HUNDREDTHS = tuple(i / 100 for i in range(1, 101))


@dataclass(frozen=True)
class SmallestBudget(AbstractAttack):
    """See `smallest_budget`."""

    attacks: tuple[Attack, ...]

    @property
    def size(self) -> AbstractSize:
        return self.attacks[0].size

    @property
    def requirements(self) -> Requirements:
        return self.attacks[0].requirements

    @property
    def passes(self) -> int:
        return sum(attack.passes for attack in self.attacks)

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The success of the smallest budget of each row; each runs on the rows not yet broken."""
        best = unchanged(victim, inputs, "f6", 0.0)
        for k, attack in enumerate(self.attacks):
            rest = (~best.success).nonzero()[:, 0]
            if not len(rest):
                break
            later = attack.find(victim, inputs.select(rest).again("budget", k))
            best = resumed(best, later, rest)
        return best


@takes_norm
def smallest_budget(
    norm: AbstractNorm,
    *,
    attack: Callable[[AbstractNorm, float], Attack] = fgsm,
    budgets: Sequence[float] = HUNDREDTHS,
) -> SmallestBudget:
    """An attack of a fixed budget as one for the nearest success, over given budgets.

    - `norm`: Linf(), L2() or L1()
    - `attack`: (norm, eps) -> an attack
    - `budgets`: rising eps, in pixel units of [0, 1]; of each image the first that breaks it
      counts, and the next ones are not tried. By default 0.01, 0.02, ... 1

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section VII: FGS and its iterated form by
    a search for the smallest distance.

    **Raises** ValueError for budgets that do not rise, or none.

    >>> from notbugs.engine import Linf
    >>> smallest_budget(Linf(), budgets=(0.1, 0.2)).name
    'FGSM, 2 budgets to 0.2'
    """
    if not budgets or list(budgets) != sorted(set(budgets)):
        raise bad_value("budgets", "be rising radii", list(budgets))
    check_norm(norm)
    attacks = tuple(attack(norm, eps) for eps in budgets)
    name = f"{attacks[0].name}, {len(budgets)} budgets to {budgets[-1]:g}"
    return SmallestBudget(name, None, attacks)
