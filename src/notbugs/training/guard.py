"""Catastrophic overfitting: a model that withstands one gradient step and falls to several."""

from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import evaluate, evaluation_pgd
from notbugs.models import Classifier

WATCHED = 200
"""Images that are looked at in every epoch."""
COLLAPSED = 0.5
"""Robust accuracy below this share of its best so far has collapsed."""


def robust_on(model: Classifier, data: ImageData, threat: Threat) -> float:
    """Robust accuracy (percent) of the first `WATCHED` images under PGD of 10 steps."""
    few = data.select(slice(0, WATCHED))
    attacks = [evaluation_pgd(threat, steps=10)]
    return evaluate(model, few, threat, attacks=attacks, fast=False).robust


def collapsed(now: float, best: float, chance: float) -> bool:
    """Whether robust accuracy fell from well above chance to less than half of its best.

    **Source**: Wong et al. 2020 (arXiv 2001.03994), section 5.3, where it falls to 0 within an
    epoch, and early stopping by PGD on training images is the remedy; the half is ours.
    """
    return best > 2 * chance and now < COLLAPSED * best
