"""The judge: how robust a model is, counted per example."""

from notbugs.judge.evaluate import accuracy, check_fits, evaluate, evaluation_pgd, predictions
from notbugs.judge.verdict import AttackRecord, Verdict, wilson

__all__ = [
    "AttackRecord",
    "Verdict",
    "accuracy",
    "check_fits",
    "evaluate",
    "evaluation_pgd",
    "predictions",
    "wilson",
]
