"""Attacks: thin compositions of the engine, one method a file."""

from notbugs.attacks.attack import Attack
from notbugs.attacks.fgsm import fgsm
from notbugs.attacks.losses import (
    Away,
    Towards,
    cross_entropy,
    margin,
    predicted,
    predicted_clean,
)
from notbugs.attacks.pgd import pgd
from notbugs.attacks.result import AttackResult

__all__ = [
    "Attack",
    "AttackResult",
    "Away",
    "Towards",
    "cross_entropy",
    "fgsm",
    "margin",
    "pgd",
    "predicted",
    "predicted_clean",
]
