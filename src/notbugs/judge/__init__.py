"""The judge: how robust a model is, counted per example."""

from notbugs.judge.accuracy import accuracy, check_fits, predictions
from notbugs.judge.estimate import estimate
from notbugs.judge.evaluate import evaluate
from notbugs.judge.ledger import identity
from notbugs.judge.masking import diagnose
from notbugs.judge.standard import evaluation_pgd, standard_attacks
from notbugs.judge.verdict import AttackRecord, Verdict, wilson

__all__ = [
    "AttackRecord",
    "Verdict",
    "accuracy",
    "check_fits",
    "diagnose",
    "estimate",
    "evaluate",
    "evaluation_pgd",
    "identity",
    "predictions",
    "standard_attacks",
    "wilson",
]
