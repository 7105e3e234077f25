"""Attacks: thin compositions of the engine, one method a file."""

from notbugs.attacks.attack import Attack, AttackResult
from notbugs.attacks.fgsm import fgsm
from notbugs.attacks.losses import Away, Towards, cross_entropy, margin, predicted
from notbugs.attacks.pgd import pgd

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
]
