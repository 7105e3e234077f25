"""The judge: how robust a model is, counted per example."""

from notbugs.judge.accuracy import accuracy, predictions
from notbugs.judge.compare import Cell, Comparison, Difference, compare
from notbugs.judge.curves import AccuracyCurve, robust_curve
from notbugs.judge.descent import LossCurve, LossRun, loss_curve
from notbugs.judge.estimate import estimate
from notbugs.judge.evaluate import evaluate
from notbugs.judge.fingerprint import identity
from notbugs.judge.masking import diagnose
from notbugs.judge.nearest import Distances, distances
from notbugs.judge.standard import evaluation_attacks, evaluation_pgd, standard_attacks
from notbugs.judge.verdict import AttackRecord, Verdict, wilson
from notbugs.models import check_fits

__all__ = [
    "AccuracyCurve",
    "Cell",
    "Comparison",
    "Difference",
    "AttackRecord",
    "Distances",
    "LossCurve",
    "LossRun",
    "Verdict",
    "accuracy",
    "check_fits",
    "compare",
    "diagnose",
    "distances",
    "estimate",
    "evaluate",
    "evaluation_attacks",
    "evaluation_pgd",
    "identity",
    "loss_curve",
    "predictions",
    "robust_curve",
    "standard_attacks",
    "wilson",
]
