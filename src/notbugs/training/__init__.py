"""Training: one loop, standard or adversarial, with exact resume."""

from notbugs.training.loop import Trained, attack_of, train
from notbugs.training.recipe import Adversary, Recipe

__all__ = ["Adversary", "Recipe", "Trained", "attack_of", "train"]
