"""The training step and the loop over epochs."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor

from notbugs.core import processes, random
from notbugs.core.global_rng import fork_global_rng, seed_global_rng
from notbugs.data import ImageData
from notbugs.models import Classifier, half, synced
from notbugs.models.airbench import fit_to, needs_fit
from notbugs.models.fast import compiled
from notbugs.models.folded_copy import GLANCE, FoldedCopy, copy_to_craft_by
from notbugs.training.adversary import Adversary
from notbugs.training.average import Average
from notbugs.training.batch import Batch
from notbugs.training.checkpoint import State
from notbugs.training.extra import SHARE, TrainingRows
from notbugs.training.optimiser import sgd
from notbugs.training.recipe import Recipe
from notbugs.training.saving import Saver
from notbugs.training.stopping import Check, check_finite
from notbugs.training.together import shared

FITTED_ON = 5000 * 3 * 32 * 32
"""Values of training images on which layers such as whitening are fitted: 5,000 of CIFAR's."""


class Trainer:
    """Trains `model` on `data` by a recipe; the arguments are those of `notbugs.training.train`."""

    def __init__(
        self,
        model: Classifier,
        data: ImageData,
        recipe: Recipe,
        seed: int = 0,
        soft: Tensor | None = None,
        compile_mode: str | None = None,
        extra: ImageData | None = None,
        share: float = SHARE,
    ) -> None:
        self.model, self.recipe, self._seed = model, recipe, seed
        self.device = next(model.parameters()).device
        self._rows = TrainingRows(
            data, self.device, batch_size=recipe.batch_size, seed=seed, extra=extra, share=share
        )
        self._keys = random.row_keys(len(self._rows), seed, "train", device=self.device)
        self._soft = None if soft is None else soft.to(self.device)
        self.optimiser = sgd(model, recipe)
        self.average = Average(model, recipe.average) if recipe.average else None
        self.per_epoch = self._rows.per_epoch
        self._logits = compiled(half(model, recipe.precision), compile_mode)
        with fork_global_rng(self.device, "folded copy"):
            self.folded_copy = self._new_copy(compile_mode)
        self._copy_follows = True

    def _new_copy(self, mode: str | None) -> FoldedCopy | None:
        """A cheaper model to craft with, if the adversary crafts in eval mode and one agrees."""
        recipe, adversary = self.recipe, self.recipe.adversary
        if not isinstance(adversary, Adversary) or adversary.train_mode:
            return None
        if recipe.objective.replays > 1:  # it crafts by its training passes
            return None
        return copy_to_craft_by(self.model, recipe.precision, self._first(GLANCE), mode)

    def _first(self, images: int) -> Tensor:
        """The first training images, at most all, [n, c, h, w]."""
        return self._rows.batch(torch.arange(min(images, self._rows.originals)))[0]

    def run(
        self,
        saver: Saver,
        checks: Sequence[Check],
        progress: Callable[[float], None],
        on_epoch: Callable[[list[dict[str, float]]], None],
    ) -> State:
        """Trains to the end, or until a check stops it; from the checkpoint where there is one."""
        epochs, state = self.recipe.epochs, saver.resumed()
        if state is None:
            self._fit_layers()
            state = State()
        processes.copy_from_first(list(self.model.state_dict().values()))
        while state.epoch < epochs and not state.stopped:
            with fork_global_rng(self.device, self._seed, "layers"), synced():
                row = self._epoch(state, saver, progress)
            # Seeds the draws of randomised models in evaluations too.
            draws = fork_global_rng(self.device, self._seed, "watch", state.epoch)
            state.epoch, state.batch, state.loss = state.epoch + 1, 0, 0.0
            with draws, nullcontext() if self.average is None else self.average.lent():
                for check in checks:
                    if not state.stopped:
                        check(self.model, state, row)
            state.history.append(row)
            on_epoch(state.history)
            if saver.is_due():
                saver.save(state, f"after epoch {state.epoch} of {epochs}")
        saver.save(state, f"after epoch {state.epoch} of {epochs}")
        progress(1.0)
        return state

    def _fit_layers(self) -> None:
        """Fits the layers that are initialised from data, such as whitening."""
        if needs_fit(self.model):
            most = max(1, FITTED_ON // math.prod(self.model.shape))
            fit_to(self.model, self.model.normalise(self._first(most)))

    def _epoch(
        self, state: State, saver: Saver, progress: Callable[[float], None]
    ) -> dict[str, float]:
        """Trains one epoch from the batch in `state` on; returns its row of the history."""
        if self.folded_copy is not None:
            self._copy_follows = self.folded_copy.follows(self.model, self._first(GLANCE))
        self.model.train()
        recipe, epoch, n = self.recipe, state.epoch, self.per_epoch
        steps, last = recipe.epochs * n, epoch + 1 == recipe.epochs
        # The first of several processes draws as a single one would.
        rank = () if processes.is_first() else (processes.rank(),)
        losses = torch.tensor(state.loss, device=self.device)
        for i, index in islice(enumerate(self._rows.batches(epoch)), state.batch, None):
            step = epoch * n + i
            rate = recipe.rate(step, steps)
            seed_global_rng(self.device, self._seed, "layers", step, *rank)
            losses += self.step(epoch, index.to(self.device), rate)
            if i % 8 == 0:
                progress((step + 1) / steps)
            if saver.is_due(by_time=i + 1 < n):
                state.batch, state.loss = i + 1, float(losses)
                check_finite(self.model, state.loss, epoch, rate)
                where = f"in epoch {epoch + 1} of {recipe.epochs}, after step {i + 1} of {n}"
                saver.save(state, where)
        mean, rate = float(losses) / n, recipe.rate(epoch * n + n - 1, steps)
        images = self._first(recipe.batch_size) if last else None
        check_finite(self.model, mean, epoch, rate, images)
        return {"epoch": float(epoch + 1), "loss": mean, "lr": rate}

    def step(self, epoch: int, index: Tensor, rate: float) -> Tensor:
        """Updates the weights by the batch of rows `index`; returns its loss, []."""
        index = processes.part(index)
        recipe, adversary, (x, y) = self.recipe, self.recipe.adversary, self._rows.batch(index)
        keys = random.fold(self._keys[index], "epoch", epoch)
        x = recipe.augment(x, self._keys[index], epoch)
        strength = 1.0 if adversary is None else adversary.strength(epoch, recipe.epochs)
        soft = None if self._soft is None else self._soft[index]
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["times"]
        folded_copy = self.folded_copy if self._copy_follows else None
        if folded_copy is not None:
            folded_copy.refresh(self.model)
        batch = Batch(self.model, self._logits, x, y, keys, strength, soft, folded_copy)
        run = shared(self.model, recipe.objective.prepared(batch, adversary))
        loss = torch.zeros((), device=self.device)
        for _ in range(recipe.objective.replays):
            self.optimiser.zero_grad()
            awp, clear = recipe.awp, self.optimiser.zero_grad
            loss = run() if awp is None else awp.apply(self.model, run, clear)
            for penalty in recipe.penalties:
                value = penalty(self.model)
                value.backward()
                loss = loss + value.detach()
            self.optimiser.step()
            if self.average is not None:
                self.average.update()
        return loss
