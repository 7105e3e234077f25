"""The standard evaluation: an ensemble of attacks that fail for different reasons."""

from notbugs.attacks import AbstractAttack, pgd
from notbugs.attacks.apgd import apgd, apgd_targeted
from notbugs.attacks.fab import fab
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.attacks.square import square
from notbugs.core.errors import check_count
from notbugs.engine import Threat


def standard_attacks(
    threat: Threat, *, samples: int = 1, thorough: bool = False
) -> list[AbstractAttack]:
    """The attacks of AutoAttack's standard version, in its order.

    APGD on the cross-entropy (100 steps), APGD on the targeted DLR loss (9 classes of
    100 steps), targeted FAB (9 classes of 100 steps) and Square (5,000 queries), each
    on the images not yet broken. For L1 the first has 5 restarts, the second 5 classes,
    and both search larger balls first (`apgd_l1`).

    All but the first give up on a row whose progress shows that it will not be broken within
    the budget (`GiveUp`), which takes most of their cost away where there are many images;
    `evaluate` checks enough of those rows to say that hardly one would have been broken.

    - `thorough`: every row that stands gets its whole budget
    - `samples`: passes averaged at every point, for a model that is random in itself.
      Above 1 no attack stops at its first success, which may be luck, and FAB is left out:
      it looks for points next to the boundary, where noise decides.

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), section 4 and Table 2; for L1 with
    the sparse steps of Croce & Hein 2021 (arXiv 2103.01208). For random models theirs has
    APGD alone.

    **Raises** ValueError for L0, which has no gradient steps.
    """
    norm, eps = threat.as_norm("the standard evaluation"), threat.eps
    check_count(samples, "samples")
    sparse = norm.name == "l1"
    chosen: list[AbstractAttack] = [
        apgd(norm, eps, steps=100, restarts=5 if sparse else 1),
        apgd_targeted(norm, eps, steps=100, targets_tried=5 if sparse else 9, give_up=True),
    ]
    search: AbstractAttack = square(norm, eps, steps=5000, give_up=True)
    if samples > 1:
        return [attack.with_samples(samples) for attack in (*chosen, search)]
    chosen += [fab(norm, eps, steps=100, give_up=True), search]
    return [attack.without_giving_up() for attack in chosen] if thorough else chosen


def evaluation_pgd(
    threat: Threat, *, steps: int = 20, restarts: int = 1, loss: ValueOfLogits = cross_entropy
) -> Attack:
    """The experiments' fixed yardstick: untargeted PGD, step eps / 5, random start.

    - `loss`: what is climbed; the margin for models whose cross-entropy has no gradient left
    """
    return pgd(
        threat.as_norm("PGD"),
        threat.eps,
        steps=steps,
        step_size=threat.eps / 5,
        restarts=restarts,
        loss=loss,
        stop_on_success=True,
    )
