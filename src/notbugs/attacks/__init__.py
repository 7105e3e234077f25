"""Attacks: thin compositions of the engine, one method a file."""

from notbugs.attacks.attack import AbstractAttack, Case, Victim
from notbugs.attacks.fgsm import fgsm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import (
    Averaged,
    Away,
    AwayThrough,
    Towards,
    cross_entropy,
    difference,
    dlr,
    margin,
    predicted,
    predicted_clean,
    targeted_dlr,
)
from notbugs.attacks.pgd import pgd
from notbugs.attacks.result import AttackResult

__all__ = [
    "AbstractAttack",
    "Attack",
    "AttackResult",
    "Averaged",
    "Away",
    "AwayThrough",
    "Case",
    "Towards",
    "Victim",
    "cross_entropy",
    "difference",
    "dlr",
    "fgsm",
    "margin",
    "pgd",
    "predicted",
    "predicted_clean",
    "targeted_dlr",
]
