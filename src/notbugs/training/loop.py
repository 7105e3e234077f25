"""The training loop: standard or adversarial, resumable, watched on held-out data."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.attacks import Attack, pgd
from notbugs.core import random
from notbugs.core.errors import TrainingError, bad_value
from notbugs.core.memory import keep_freed_memory
from notbugs.core.types import Images, Keys, Labels
from notbugs.data import DeviceData, ImageData, batches
from notbugs.engine import LowestValue, Threat
from notbugs.judge import accuracy, check_fits, evaluate, evaluation_pgd
from notbugs.models import Classifier, frozen, half
from notbugs.training import checkpoint
from notbugs.training.checkpoint import State
from notbugs.training.draws import own_draws
from notbugs.training.recipe import Adversary, Recipe

CHECKPOINT_SECONDS = 10.0
WATCHED_IMAGES = 500


@dataclass(frozen=True)
class Trained:
    """What a training gives back: the model (the one passed in) and what was watched.

    `history` holds one row per epoch: epoch, loss, lr, and where it was watched
    `val_clean` and `val_robust` in percent.
    """

    model: Classifier
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float


def train(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    val: ImageData | None = None,
    checkpoint_path: Path | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Trained:
    """Trains `model` in place on `data` and returns it in eval mode.

    - `seed`: order, augmentation and adversary of every epoch follow from it
    - `val`: held-out data to watch, and to choose by where the recipe says "best"
    - `checkpoint_path`: a safetensors file written every few seconds at epoch ends; if
      it is there, training goes on from it and ends with the same weights
    - `progress`: called with the fraction done, 0..1

    **Raises** ValueError for data that does not fit; TrainingError when the loss stops
    being finite; DataError for a checkpoint of another training.
    """
    check_fits(model, data)
    if val is not None:
        check_fits(model, val, "val")
    if recipe.select == "best" and val is None:
        raise bad_value(
            "val", "be given with select='best'", None, "Hold some training images out."
        )
    if recipe.batch_size > len(data):
        raise bad_value(
            "batch_size",
            f"not exceed the {len(data)} training images",
            recipe.batch_size,
            f"Fewer images than a batch: use a batch size of at most {len(data)}, or more data.",
        )
    keep_freed_memory()
    began = time.perf_counter()
    state = _Training(model, data, recipe, seed, val, checkpoint_path).run(progress)
    if recipe.select == "best" and state.best:
        model.load_state_dict(state.best)
    model.eval()
    best = state.best_epoch if recipe.select == "best" else None
    return Trained(model, state.history, best, time.perf_counter() - began)


def attack_of(adversary: Adversary, strength: float = 1.0) -> Attack:
    """The PGD that a recipe's adversary means, at a share of its eps.

    The lowest objective on the way is kept.
    """
    threat = Threat.parse(adversary.threat).scaled(strength)
    size = adversary.step_size
    return pgd(
        threat.as_norm("PGD"),
        threat.eps,
        steps=adversary.steps,
        step_size=2.5 * threat.eps / adversary.steps if size is None else strength * size,
        random_start=adversary.random_start,
        keep=LowestValue(),
    )


class _Training:
    """One training run: the pieces that its epochs share."""

    def __init__(
        self,
        model: Classifier,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        val: ImageData | None,
        path: Path | None,
    ) -> None:
        self.model, self.recipe, self.seed, self.val, self.path = model, recipe, seed, val, path
        self.device = next(model.parameters()).device
        self.data = DeviceData(data, self.device)
        self.keys = random.row_keys(len(data), seed, "train", device=self.device)
        self.attack: Attack | None = None
        watched = val if recipe.watch_every else None
        self.owner = checkpoint.owner_of(model, data, recipe, seed, watched)
        self.optimiser = _sgd(model, recipe)
        self.per_epoch = len(data) // recipe.batch_size

    def run(self, progress: Callable[[float], None]) -> State:
        state, saved = self._resumed(), time.perf_counter()
        for epoch in range(state.epoch, self.recipe.epochs):
            with own_draws(self.device, self.seed, "layers", epoch):
                row = self._epoch(epoch, progress)
            state.epoch = epoch + 1
            self._watch(state, row)
            state.history.append(row)
            if self.path is not None and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                checkpoint.save(self.path, self.model, self.optimiser, state, self.owner)
                saved = time.perf_counter()
        if self.path is not None:
            checkpoint.save(self.path, self.model, self.optimiser, state, self.owner)
        progress(1.0)
        return state

    def _resumed(self) -> State:
        if self.path is None:
            return State()
        return checkpoint.load(self.path, self.model, self.optimiser, self.owner)

    def _epoch(self, epoch: int, progress: Callable[[float], None]) -> dict[str, float]:
        self.model.train()
        recipe, n = self.recipe, len(self.keys)
        if recipe.adversary is not None:
            strength = recipe.adversary.strength(epoch, recipe.epochs)
            self.attack = attack_of(recipe.adversary, strength)
        losses = torch.zeros((), device=self.device)
        order = batches(n, recipe.batch_size, seed=self.seed, epoch=epoch, drop_last=True)
        rate = recipe.lr
        for i, index in enumerate(order):
            step = epoch * self.per_epoch + i
            rate = recipe.rate(step, recipe.epochs * self.per_epoch)
            losses += self._step(epoch, index.to(self.device), rate)
            if i % 8 == 0:
                progress((step + 1) / (recipe.epochs * self.per_epoch))
        mean = float(losses) / self.per_epoch
        if not math.isfinite(mean):
            raise _diverged(f"loss became {mean}", epoch, rate)
        if not self._sound(last=epoch + 1 == recipe.epochs):
            raise _diverged("left weights or logits that are NaN or infinite", epoch, rate)
        return {"epoch": float(epoch + 1), "loss": mean, "lr": rate}

    def _sound(self, *, last: bool) -> bool:
        """Whether the weights are finite, and at the end, with no next loss to tell, the logits."""
        sound = all(bool(p.isfinite().all()) for p in self.model.parameters())
        if sound and last:
            few, _ = self.data.batch(torch.arange(self.recipe.batch_size))
            with frozen(self.model), torch.no_grad():
                sound = bool(self.model(few).isfinite().all())
        return sound

    def _step(self, epoch: int, index: Tensor, rate: float) -> Tensor:
        x, y = self.data.batch(index)
        keys = random.fold(self.keys[index], "epoch", epoch)
        x = self.recipe.augment(x, random.fold(keys, "augment"))
        if self.attack is not None:
            x = self._crafted(x, y, keys)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        logits = half(self.model, self.recipe.precision)(x)
        loss = F.cross_entropy(logits, y)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _crafted(self, x: Images, y: Labels, keys: Keys) -> Images:
        adversary = self.recipe.adversary
        if self.attack is None or adversary is None:
            return x
        with frozen(self.model, training=adversary.train_mode):
            return self.attack.craft(half(self.model, self.recipe.precision), x, y, keys=keys).x

    def _watch(self, state: State, row: dict[str, float]) -> None:
        """Adds held-out accuracies to the epoch's row and remembers the best weights."""
        every = self.recipe.watch_every
        last = state.epoch == self.recipe.epochs
        if self.val is None or not every or (state.epoch % every and not last):
            return
        row["val_clean"] = accuracy(self.model, self.val)
        threat = self._watched_threat()
        if threat is not None:
            few = self.val.select(slice(0, WATCHED_IMAGES))
            attack = evaluation_pgd(threat, steps=10)
            verdict = evaluate(self.model, few, threat, attacks=[attack], fast=False)
            row["val_robust"] = verdict.robust
        score = row["val_clean"] if self.recipe.adversary is None else row["val_robust"]
        if self.recipe.select == "best" and score > state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            state.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}

    def _watched_threat(self) -> Threat | None:
        if self.recipe.watch_threat is not None:
            return Threat.parse(self.recipe.watch_threat)
        adversary = self.recipe.adversary
        return None if adversary is None else Threat.parse(adversary.threat)


def _sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
        fused=True,
    )


def _diverged(what: str, epoch: int, rate: float) -> TrainingError:
    return TrainingError(
        f"The training {what} in epoch {epoch + 1} at learning rate {rate:.3g}. "
        "Lower `lr` or raise `warmup`; the data itself was checked to be finite."
    )
