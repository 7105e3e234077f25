"""Attacks: thin compositions of the engine, one method a file."""

from notbugs.attacks.alma import alma
from notbugs.attacks.apgd import apgd, apgd_targeted
from notbugs.attacks.apgd_l1 import apgd_l1
from notbugs.attacks.attack import AbstractAttack, AttackInputs, Victim
from notbugs.attacks.bim import bim, least_likely
from notbugs.attacks.cw_l0 import cw_l0
from notbugs.attacks.cw_l2 import cw_l2
from notbugs.attacks.cw_linf import cw_linf
from notbugs.attacks.ddn import ddn
from notbugs.attacks.deepfool import deepfool
from notbugs.attacks.ead import ead
from notbugs.attacks.every_target import best_average_worst
from notbugs.attacks.fab import fab
from notbugs.attacks.feature_distance import feature_distance
from notbugs.attacks.fgsm import fgsm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.fmn import fmn
from notbugs.attacks.hop_skip_jump import hop_skip_jump
from notbugs.attacks.jsma import jsma
from notbugs.attacks.latent import latent
from notbugs.attacks.lbfgs import lbfgs
from notbugs.attacks.losses import (
    Averaged,
    Targeted,
    Untargeted,
    UntargetedByTarget,
    cross_entropy,
    difference,
    dlr,
    margin,
    targeted_dlr,
)
from notbugs.attacks.mim import mim
from notbugs.attacks.minimum import MinimumNorm
from notbugs.attacks.multi_targeted import MultiTargeted
from notbugs.attacks.perceptual import perceptual_lagrangian, perceptual_pgd
from notbugs.attacks.pgd import pgd
from notbugs.attacks.result import AttackResult
from notbugs.attacks.rounding import Rounded, to_8_bit
from notbugs.attacks.smallest_budget import smallest_budget
from notbugs.attacks.square import square
from notbugs.attacks.transformed import di_fgsm, eot, ti_fgsm
from notbugs.attacks.universal import universal
from notbugs.models import predicted_clean
from notbugs.models.decision import predicted

__all__ = [
    "AbstractAttack",
    "Attack",
    "AttackResult",
    "Averaged",
    "Untargeted",
    "UntargetedByTarget",
    "AttackInputs",
    "MinimumNorm",
    "Rounded",
    "MultiTargeted",
    "Targeted",
    "Victim",
    "alma",
    "apgd",
    "apgd_l1",
    "apgd_targeted",
    "best_average_worst",
    "bim",
    "cross_entropy",
    "cw_l0",
    "cw_l2",
    "cw_linf",
    "ddn",
    "deepfool",
    "di_fgsm",
    "difference",
    "dlr",
    "ead",
    "eot",
    "fab",
    "feature_distance",
    "fgsm",
    "fmn",
    "hop_skip_jump",
    "jsma",
    "latent",
    "lbfgs",
    "least_likely",
    "margin",
    "mim",
    "perceptual_lagrangian",
    "perceptual_pgd",
    "pgd",
    "predicted",
    "predicted_clean",
    "smallest_budget",
    "square",
    "targeted_dlr",
    "ti_fgsm",
    "to_8_bit",
    "universal",
]
