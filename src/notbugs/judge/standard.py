"""The standard evaluation: an ensemble of attacks that fail for different reasons."""

from collections.abc import Mapping, Sequence
from typing import Any

from notbugs.attacks import AbstractAttack, pgd
from notbugs.attacks.apgd import apgd, apgd_targeted
from notbugs.attacks.fab import fab
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.attacks.named import METHODS, attack_named, numbered, with_steps
from notbugs.attacks.square import square
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.engine import Threat

STANDARD = ("standard", "autoattack", "aa")
"""What the standard evaluation is called."""


def standard_attacks(
    threat: Threat, *, samples: int = 1, thorough: bool = False
) -> list[AbstractAttack]:
    """The attacks of AutoAttack's standard version, in its order.

    APGD on the cross-entropy (100 steps), APGD on the targeted DLR loss (9 classes of
    100 steps), targeted FAB (9 classes of 100 steps) and Square (5,000 queries), each
    on the images not yet broken. For L1 the first has 5 restarts, the second 5 classes,
    and both search larger balls first (`apgd_l1`).

    All but the first give up on rows whose progress shows that they will not be broken within
    the budget (`GiveUp`), which saves most of the cost on many images; `evaluate` checks enough
    of those rows to bound how many would have been broken.

    - `thorough`: no attack gives up on a row before its whole budget is spent
    - `samples`: passes averaged at every point, for a randomised model. Above 1 no attack
      stops at its first success, which may be luck, and FAB is left out: it looks for points
      next to the boundary, where noise decides

    **Source**: Croce & Hein 2020 (arXiv 2003.01690), section 4 and Table 2; for L1 with
    the sparse steps of Croce & Hein 2021 (arXiv 2103.01208). For randomised models
    theirs has APGD alone.

    **Raises** ValueError for L0, which has no gradient steps.
    """
    norm, eps = threat.as_norm("the standard evaluation"), threat.eps
    check_count(samples, "samples")
    sparse = norm.name == "l1"
    attacks: list[AbstractAttack] = [
        apgd(norm, eps, steps=100, restarts=5 if sparse else 1),
        apgd_targeted(norm, eps, steps=100, targets_tried=5 if sparse else 9, give_up=True),
    ]
    query_attack: AbstractAttack = square(norm, eps, steps=5000, give_up=True)
    if samples > 1:
        return [attack.with_samples(samples) for attack in (*attacks, query_attack)]
    attacks += [fab(norm, eps, steps=100, give_up=True), query_attack]
    return [attack.without_giving_up() for attack in attacks] if thorough else attacks


def evaluation_pgd(
    threat: Threat, *, steps: int = 20, restarts: int = 1, loss: ValueOfLogits = cross_entropy
) -> Attack:
    """The fixed attack that experiments evaluate by: untargeted PGD, step eps / 5, random start.

    - `loss`: to maximise; use the margin where the cross-entropy's gradient vanishes
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


def is_standard(attacks: object) -> bool:
    """Whether it is a name of the standard evaluation."""
    return isinstance(attacks, str) and numbered(attacks) in [(name, None) for name in STANDARD]


def evaluation_attacks(
    methods: str | Sequence[str],
    threat: Threat,
    *,
    samples: int = 1,
    thorough: bool = False,
    **options: Any,
) -> list[AbstractAttack]:
    """The attacks that methods name, for an evaluation.

    - `methods`: "standard" or "autoattack" (`standard_attacks`), "pgd" or "pgd-20"
      (`evaluation_pgd`), or any method within a threat (`attack_named`); several run one after
      another, each on the images not yet broken
    - `samples`, `thorough`: as in `evaluate`; `options`: of the methods that are not "standard"

    **Raises** ValueError for an unknown name, or a method without a radius.
    """
    check_count(samples, "samples")
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    attacks = list[AbstractAttack]()
    for name in names:
        if is_standard(name):
            made = standard_attacks(threat, samples=samples, thorough=thorough)
        else:
            made = [_evaluating(name, threat, options).with_samples(samples)]
        if any(attack in attacks for attack in made):
            raise bad_value("method", "name each attack once", ", ".join(names))
        attacks += made
    if not attacks:
        raise bad_value("method", "name at least one", "none")
    return attacks


def _evaluating(name: str, threat: Threat, options: Mapping[str, Any]) -> AbstractAttack:
    """The attack that a method names in an evaluation."""
    if numbered(name)[0] not in METHODS:
        raise unknown_name("method", name, (*STANDARD, *METHODS))
    plain, given = with_steps(name, options)
    if not METHODS[plain].bounded:
        raise bad_value(
            "method",
            f"stay within {threat} in an evaluation",
            f"'{name}', which looks for the nearest success at any distance",
            "Measure distances: `notbugs attack`, or judge.distances.",
        )
    return (
        evaluation_pgd(threat, **given) if plain == "pgd" else attack_named(plain, threat, **given)
    )
