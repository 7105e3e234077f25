"""Checks after an epoch: catastrophic overfitting, held-out accuracy, patience, divergence."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack
from notbugs.core.errors import TrainingError
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import evaluate, evaluation_pgd
from notbugs.judge.accuracy import percent_right
from notbugs.models import Classifier, frozen
from notbugs.training.adversary import Adversary
from notbugs.training.checkpoint import State, snapshot
from notbugs.training.recipe import Recipe

WATCHED, GUARDED = 500, 200
"""Images attacked after an epoch, for held-out robust accuracy and by the guard."""
COLLAPSED = 0.5
"""Robust accuracy below this share of its best so far has collapsed."""

Check = Callable[[Classifier, State, dict[str, float]], None]
"""Called after an epoch: adds to its row of the history, and may stop the training."""


def checks_of(recipe: Recipe, data: ImageData, val: ImageData | None) -> list[Check]:
    """The checks of a recipe, to run in this order until one stops the training."""
    adversary, checks = recipe.adversary, list[Check]()
    one_step = recipe.objective.is_one_step or (adversary is not None and adversary.is_one_step)
    if adversary is not None and recipe.guard and one_step:
        checks.append(Guard(val or data, Threat.parse(adversary.threat)))
    if val is not None and recipe.watch_every:
        checks.append(HeldOut(recipe, val))
    if recipe.patience:
        checks.append(Patience(recipe))
    return checks


@dataclass(frozen=True)
class Guard:
    """Stops at catastrophic overfitting, and keeps the most robust weights from before.

    - `data`: held-out images; the training images where there are none
    """

    data: ImageData
    threat: Threat

    def __call__(self, model: Classifier, state: State, row: dict[str, float]) -> None:
        """Adds `guard_robust` to the epoch's row."""
        accuracy = row["guard_robust"] = self.robust(model)
        if collapsed(accuracy, state.guarded, 100 / self.data.classes):
            if not state.best:  # held-out accuracy has selected none
                state.best, state.best_epoch = state.sound, state.sound_epoch
            state.stopped = (
                f"Catastrophic overfitting in epoch {state.epoch}: robust accuracy under PGD-10 "
                f"fell from {state.guarded:.1f} to {accuracy:.1f} %. The weights are those of "
                f"epoch {state.best_epoch}. Use more steps, N-FGSM (NoisyStep) or a smaller eps."
            )
        elif accuracy > state.guarded:
            state.guarded, state.sound_epoch = accuracy, state.epoch
            state.sound = snapshot(model)

    def robust(self, model: Classifier) -> float:
        """Robust accuracy, in percent."""
        attack = evaluation_pgd(self.threat, steps=10)
        return robust_on(model, self.data, self.threat, GUARDED, attack)


@dataclass(frozen=True)
class HeldOut:
    """Evaluates on held-out images every few epochs, and keeps the best weights if needed."""

    recipe: Recipe
    val: ImageData

    def __call__(self, model: Classifier, state: State, row: dict[str, float]) -> None:
        """Adds `val_clean` and, where there is a threat, `val_robust` to the epoch's row."""
        recipe = self.recipe
        if state.epoch % recipe.watch_every and state.epoch < recipe.epochs:
            return
        score = row["val_clean"] = percent_right(model, self.val)
        adversary = recipe.adversary
        watched = recipe.watch_threat or (None if adversary is None else adversary.threat)
        if watched is not None:
            threat = Threat.parse(watched)
            attack = (adversary or Adversary()).measured_by(threat)
            row["val_robust"] = robust_on(model, self.val, threat, WATCHED, attack)
            if adversary is not None and recipe.select != "best-clean":
                score = row["val_robust"]
        if score > state.best_score:
            state.best_score = score
            if recipe.select != "last" or recipe.patience:
                state.best_epoch, state.best = state.epoch, snapshot(model)


@dataclass(frozen=True)
class Patience:
    """Stops after `recipe.patience` evaluations by `HeldOut` without a better score."""

    recipe: Recipe

    def __call__(self, model: Classifier, state: State, row: dict[str, float]) -> None:
        """Counts the evaluations since the best one, without those of a warm-up."""
        recipe = self.recipe
        if "val_clean" not in row:
            return
        if state.best_epoch == state.epoch:
            state.looks = 0
        elif self._is_warm(state.epoch):
            state.looks += 1
        if state.looks >= recipe.patience and state.epoch < recipe.epochs:
            state.stopped = (
                f"Stopped early in epoch {state.epoch}: no better score on held-out images in "
                f"{state.looks} evaluations. The weights are those of epoch {state.best_epoch}."
            )

    def _is_warm(self, epoch: int) -> bool:
        """Whether learning rate and adversary had their full size in the epoch, 1..epochs."""
        recipe, adversary = self.recipe, self.recipe.adversary
        full_strength = adversary is None or adversary.strength(epoch - 1, recipe.epochs) >= 1
        return full_strength and epoch > recipe.warmup * recipe.epochs


def robust_on(
    model: Classifier, data: ImageData, threat: Threat, images: int, attack: AbstractAttack
) -> float:
    """Robust accuracy (percent) of the first `images` under an attack."""
    few = data.select(slice(0, images))
    return evaluate(model, few, threat, attacks=[attack], fast=False).robust_accuracy


def collapsed(now: float, best: float, chance: float) -> bool:
    """Whether robust accuracy fell from well above chance to less than half of its best.

    **Source**: Wong et al. 2020 (arXiv 2001.03994), section 5.3, where it drops to 0 within an
    epoch, and the remedy is early stopping by PGD on training images; the threshold is ours.
    """
    return best > 2 * chance and now < COLLAPSED * best


def check_finite(
    model: Classifier, loss: float, epoch: int, rate: float, x: Tensor | None = None
) -> None:
    """Ends a training that has diverged, before a checkpoint of it is written.

    **Raises** TrainingError where loss, weights or the logits of `x` [n, c, h, w] are not finite.
    """
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    if finite and x is not None:
        with frozen(model), torch.no_grad():
            finite = bool(model(x).isfinite().all())
    if finite and math.isfinite(loss):
        return
    what = "left weights or logits that are NaN or infinite"
    raise TrainingError(
        f"The training {what if math.isfinite(loss) else f'loss became {loss}'} in epoch "
        f"{epoch + 1} at learning rate {rate:.3g}. "
        "Lower `lr` or raise `warmup`; the data itself was checked to be finite."
    )
