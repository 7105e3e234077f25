"""Training: standard or adversarial, with exact resume; adversaries, objectives and penalties."""

from notbugs.training.adversary import (
    AbstractAdversary,
    AbstractImageAdversary,
    Adversary,
    FastGradient,
)
from notbugs.training.autoencoder import pretrain
from notbugs.training.awp import Awp
from notbugs.training.batch import Batch
from notbugs.training.extra import SHARE
from notbugs.training.free import Free
from notbugs.training.hidden import HiddenLayer
from notbugs.training.image_priors import (
    principal_components,
    train_denoiser,
    train_generator,
)
from notbugs.training.logistic import WorstCaseLogistic
from notbugs.training.loop import Trained, estimate, train
from notbugs.training.mart import Mart
from notbugs.training.named import RECIPES, named
from notbugs.training.nfgsm import NoisyStep
from notbugs.training.noise import Noise
from notbugs.training.objective import AbstractTrainingObjective, Mixed, Plain
from notbugs.training.penalty import AbstractPenalty, L1Decay, L2Decay, Lipschitz
from notbugs.training.reactive import Rotation, ScaledGradient
from notbugs.training.recipe import Recipe
from notbugs.training.sparsify import mean_sparse
from notbugs.training.temperature import AtTemperature, distil, soft_labels, with_temperature
from notbugs.training.trades import Trades
from notbugs.training.written import recipe_as_json, recipe_from_json

__all__ = [
    "RECIPES",
    "SHARE",
    "AbstractAdversary",
    "AbstractImageAdversary",
    "AbstractTrainingObjective",
    "AbstractPenalty",
    "Adversary",
    "AtTemperature",
    "Awp",
    "FastGradient",
    "Batch",
    "Free",
    "HiddenLayer",
    "L1Decay",
    "L2Decay",
    "Lipschitz",
    "Mart",
    "Mixed",
    "Noise",
    "NoisyStep",
    "Plain",
    "Recipe",
    "Rotation",
    "ScaledGradient",
    "Trades",
    "Trained",
    "WorstCaseLogistic",
    "distil",
    "estimate",
    "with_temperature",
    "named",
    "pretrain",
    "principal_components",
    "mean_sparse",
    "recipe_as_json",
    "recipe_from_json",
    "soft_labels",
    "train",
    "train_denoiser",
    "train_generator",
]
