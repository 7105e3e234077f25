"""The training loop: standard or adversarial, resumable, watched on held-out data."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from notbugs.core import processes, random
from notbugs.core.draws import draw_from, own_draws
from notbugs.core.errors import CheckpointError, TrainingError, bad_value
from notbugs.core.interrupts import Stopped, between_steps
from notbugs.core.memory import keep_freed_memory
from notbugs.data import DeviceData, ImageData, batches
from notbugs.engine import Threat
from notbugs.judge import evaluate, evaluation_pgd
from notbugs.judge.accuracy import percent_right
from notbugs.models import Classifier, Follower, frozen, half, prepare, prepared, synced
from notbugs.models.airbench import fit_to, needs_fit
from notbugs.models.fast import check_mode, compiled
from notbugs.training import checkpoint
from notbugs.training.adversary import Adversary
from notbugs.training.average import Average
from notbugs.training.batch import Batch
from notbugs.training.checkpoint import Pace, State
from notbugs.training.guard import collapsed, robust_on
from notbugs.training.optimiser import sgd
from notbugs.training.recipe import Recipe
from notbugs.training.together import check_divides, shared

CHECKPOINT_SECONDS = 10.0
FITTED_ON = 5000 * 3 * 32 * 32
"""Values of training images that layers which begin from data are fitted on: 5,000 of CIFAR's."""
WATCHED_IMAGES = 500
COMPILERS = ("torch._dynamo.", "torch._inductor.")
"""Where the errors of `torch.compile` are defined; importing them would take a second."""
GLANCE = 16
"""Images on which a follower is compared with the model, in every epoch before it crafts."""


@dataclass(frozen=True)
class Trained:
    """What a training gives back: the model (the one passed in) and what was watched.

    `history` holds one row per epoch: epoch, loss, lr, and where it was watched
    `val_clean` and `val_robust` in percent. `stopped` says why training ended before its
    time, "" where it did not.
    """

    model: Classifier
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    stopped: str = ""


@prepared()
def train(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    val: ImageData | None = None,
    soft: Tensor | None = None,
    checkpoint_path: Path | None = None,
    compile_mode: str | None = None,
    anew: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
    on_epoch: Callable[[list[dict[str, float]]], None] = lambda history: None,
) -> Trained:
    """Trains `model` in place on `data` and returns it in eval mode.

    Its weights are laid out in the memory format in which they learn fastest (`prepare`).

    Where several processes share the work (`notbugs.core.processes`), each passes an equal
    part of every batch, batch norms see the whole of it, and all end with the same weights:
    those of one process up to the order of sums (dropout draws differ). The first of them
    keeps the checkpoint.

    - `seed`: order, augmentation and adversary of every epoch follow from it
    - `val`: held-out data to watch, and to choose by where the recipe says "best"
    - `soft` [n, k]: probabilities of the classes for every image, for lessons that learn from
      a teacher
    - `checkpoint_path`: a safetensors file written every few seconds, also within an epoch;
      if it is there, training goes on from it and ends with the same weights
    - `compile_mode`: compile forward and backward passes, by that mode of `torch.compile`;
      up to half a minute or more at the beginning; on a processor steps hardly become shorter. What
      is rounded differently then makes other bits, so a checkpoint of another mode is refused.
    - `anew`: begin anew, and write over it, where the checkpoint is of another training or damaged
    - `progress`: called with the fraction done, 0..1
    - `on_epoch`: called with the whole history after every epoch

    With a `checkpoint_path`, the first Ctrl-C or SIGTERM lets the step under way end and writes a
    checkpoint there; a second one stops at once. (Of several processes each stops at once.)

    **Raises** `notbugs.core.interrupts.Stopped`, a KeyboardInterrupt, where it was stopped so;
    ValueError for data that does not fit, for an unknown `compile_mode` and for one
    with an adversary that cannot be compiled; TrainingError when the loss stops being finite and
    where compiling fails; CheckpointError for a damaged checkpoint or another's, unless `anew`.
    """
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
    check_divides(recipe.batch_size)
    check_compiles(recipe, compile_mode)
    keep_freed_memory()
    prepare(model, model.device)
    began = time.perf_counter()
    if soft is not None and soft.shape != (len(data), data.classes):
        raise bad_value("soft", f"have shape ({len(data)}, {data.classes})", tuple(soft.shape))
    path, mode = checkpoint_path, compile_mode
    work = _Training(model, data, recipe, seed, val, soft, path, mode, anew=anew)
    try:
        state = work.run(progress, on_epoch)
    except RuntimeError as error:
        if compile_mode is None or not type(error).__module__.startswith(COMPILERS):
            raise
        said = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"torch could not compile the model ({said}). Leave "
            "`compile_mode` (--compile) out; on a processor it needs a C++ compiler such as g++."
        ) from error
    chosen = recipe.select == "best" or bool(state.stopped)
    if chosen and state.best:
        model.load_state_dict(state.best)
    elif state.average:
        model.load_state_dict(state.average)
    model.eval()
    best = state.best_epoch if chosen else None
    return Trained(model, state.history, best, time.perf_counter() - began, state.stopped)


def check_compiles(recipe: Recipe, mode: str | None) -> None:
    """Refuses an unknown mode of compilation, and a recipe that none can serve; None: no mode."""
    check_mode(mode)
    adversary = recipe.adversary
    if mode is not None and adversary is not None and not adversary.compiles:
        raise bad_value(
            "compile_mode",
            f"be left out with {type(adversary).__name__}",
            f"'{mode}'",
            "Leave --compile out: this adversary looks inside the model, or differentiates twice, "
            "which torch cannot compile.",
        )


@prepared()
def estimate(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    soft: Tensor | None = None,
) -> float:
    """Seconds that `train` will take, about: two steps of a copy are taken, the second timed.

    What is watched on held-out data is left out.
    """
    check_divides(recipe.batch_size)
    trial = _Training(copy.deepcopy(model), data, recipe, 0, None, soft, None)
    trial.model.train()
    index = next(batches(len(data), recipe.batch_size, seed=0, epoch=0, shuffle=False))
    seconds = 0.0
    with own_draws(trial.device, "estimate"):
        for _ in range(2):
            began = time.perf_counter()
            float(trial.step(recipe.epochs - 1, index.to(trial.device), recipe.lr))
            seconds = time.perf_counter() - began
    return seconds * trial.per_epoch * recipe.epochs


class _Training:
    """One training run: the pieces that its epochs share."""

    def __init__(
        self,
        model: Classifier,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        val: ImageData | None,
        soft: Tensor | None,
        path: Path | None,
        compile_mode: str | None = None,
        *,
        anew: bool = False,
    ) -> None:
        self.anew = anew
        self.model, self.recipe, self.seed, self.val, self.path = model, recipe, seed, val, path
        self.device = next(model.parameters()).device
        self.source, self.data = data, DeviceData(data, self.device)
        self.keys = random.row_keys(len(data), seed, "train", device=self.device)
        self.soft = None if soft is None else soft.to(self.device)
        watched = val if recipe.watch_every or self._guarded else None
        self.owner = checkpoint.owner_of(model, data, recipe, seed, watched, soft, compile_mode)
        self.optimiser = sgd(model, recipe)
        self.average = Average(model, recipe.average) if recipe.average else None
        self.per_epoch = len(data) // recipe.batch_size
        self.pace = Pace()
        self.logits = compiled(half(model, recipe.precision), compile_mode)
        with own_draws(self.device, "follower"):
            self.follower = self._followed(compile_mode)
        self.trusted = True
        self.heard: Callable[[], int] = lambda: 0

    def run(
        self,
        progress: Callable[[float], None],
        on_epoch: Callable[[list[dict[str, float]]], None],
    ) -> State:
        """Trains to the end; where checkpoints are kept, one is written when it is stopped."""
        if self.path is None or processes.count() > 1:
            return self._run(progress, on_epoch)
        with between_steps() as self.heard:
            return self._run(progress, on_epoch)

    def _run(
        self,
        progress: Callable[[float], None],
        on_epoch: Callable[[list[dict[str, float]]], None],
    ) -> State:
        state = self._resumed()
        processes.made_alike(list(self.model.state_dict().values()))
        for epoch in range(state.epoch, self.recipe.epochs):
            if state.stopped:
                break
            with own_draws(self.device, self.seed, "layers"), synced():
                row = self._epoch(epoch, state, progress)
            state.epoch, state.batch, state.loss = epoch + 1, 0, 0.0
            # What a model that is random in itself draws when it is looked at follows as well.
            with own_draws(self.device, self.seed, "watch", epoch):
                if self.average is None:
                    self._watch(state, row)
                else:
                    with self.average.lent():
                        self._watch(state, row)
            state.history.append(row)
            on_epoch(state.history)
            heard = self.heard()
            if self._due or heard:
                self._save(state)
            if heard:
                raise self._stopped(state, heard)
        self._save(state)
        progress(1.0)
        return state

    @property
    def _due(self) -> bool:
        return self._writes and self.pace.due(CHECKPOINT_SECONDS)

    @property
    def _writes(self) -> bool:
        """Whether this process keeps a checkpoint."""
        return self.path is not None and processes.is_first()

    def _save(self, state: State) -> None:
        began = time.perf_counter()
        if self.average is not None:
            state.average, state.averaged = self.average.state, self.average.steps
        if self.path is not None and self._writes:
            checkpoint.save(self.path, self.model, self.optimiser, state, self.owner)
        self.pace.written(began)

    def _stopped(self, state: State, number: int) -> Stopped:
        """What ends the work that is saved, after the signal of that number."""
        of = self.recipe.epochs
        at = f"after epoch {state.epoch} of {of}"
        if state.batch:
            at = f"in epoch {state.epoch + 1} of {of}, after step {state.batch} of {self.per_epoch}"
        return Stopped(
            f"Stopped {at}; saved to '{self.path}'. The same command goes on there.", number
        )

    @property
    def _own(self) -> tuple[int, ...]:
        """What tells draws inside layers from those of the first process, which names nothing."""
        return () if processes.is_first() else (processes.rank(),)

    def _resumed(self) -> State:
        path, state = self.path, None
        if path is not None:
            try:
                found = processes.from_first(lambda: checkpoint.read(path, self.owner))
                if found is not None:
                    state = checkpoint.restored(found, self.model, self.optimiser, path)
            except CheckpointError:
                if not self.anew:
                    raise
        if state is None:
            self._begin_from_data()
            return State()
        if self.average is not None and state.average:
            self.average.begin(state.average, state.averaged)
        return state

    def _begin_from_data(self) -> None:
        """Lets layers whose weights come from images take them, where there are such."""
        if not needs_fit(self.model):
            return
        most = max(1, FITTED_ON // math.prod(self.source.shape))
        first, _ = self.data.batch(torch.arange(min(most, len(self.keys))))
        fit_to(self.model, self.model.normalise(first))

    def _epoch(
        self, epoch: int, state: State, progress: Callable[[float], None]
    ) -> dict[str, float]:
        """One epoch, from the batch at which `state` stands."""
        if self.follower is not None:
            self.trusted = self.follower.holds(self._few())
        self.model.train()
        recipe, n = self.recipe, len(self.keys)
        steps = recipe.epochs * self.per_epoch
        losses = torch.tensor(state.loss, device=self.device)
        order = batches(n, recipe.batch_size, seed=self.seed, epoch=epoch, drop_last=True)
        # That of the step before; it is the epoch's where a checkpoint stands after its last step.
        rate = recipe.rate(max(epoch * self.per_epoch + state.batch - 1, 0), steps)
        for i, index in islice(enumerate(order), state.batch, None):
            step = epoch * self.per_epoch + i
            rate = recipe.rate(step, steps)
            draw_from(self.device, self.seed, "layers", step, *self._own)
            losses += self.step(epoch, index.to(self.device), rate)
            if i % 8 == 0:
                progress((step + 1) / steps)
            heard = self.heard()
            if heard or (self._due and i + 1 < self.per_epoch):
                state.batch, state.loss = i + 1, float(losses)
                self._check(state.loss, epoch, rate)
                self._save(state)
            if heard:
                raise self._stopped(state, heard)
        mean = float(losses) / self.per_epoch
        self._check(mean, epoch, rate, last=epoch + 1 == recipe.epochs)
        return {"epoch": float(epoch + 1), "loss": mean, "lr": rate}

    def _check(self, loss: float, epoch: int, rate: float, *, last: bool = False) -> None:
        """Ends a training that has diverged before a checkpoint of it is written."""
        if not math.isfinite(loss):
            raise _diverged(f"loss became {loss}", epoch, rate)
        if not self._sound(last=last):
            raise _diverged("left weights or logits that are NaN or infinite", epoch, rate)

    def _sound(self, *, last: bool) -> bool:
        """Whether the weights are finite, and at the end, with no next loss to tell, the logits."""
        sound = all(bool(p.isfinite().all()) for p in self.model.parameters())
        if sound and last:
            few, _ = self.data.batch(torch.arange(self.recipe.batch_size))
            with frozen(self.model), torch.no_grad():
                sound = bool(self.model(few).isfinite().all())
        return sound

    def step(self, epoch: int, index: Tensor, rate: float) -> Tensor:
        """The loss of one batch, learnt from."""
        index = processes.part(index)
        recipe, (x, y) = self.recipe, self.data.batch(index)
        keys = random.fold(self.keys[index], "epoch", epoch)
        x = recipe.augment(x, self.keys[index], epoch)
        adversary = recipe.adversary
        strength = 1.0 if adversary is None else adversary.strength(epoch, recipe.epochs)
        soft = None if self.soft is None else self.soft[index]
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["times"]
        follower = self.follower if self.trusted else None
        if follower is not None:
            follower.weights_changed()
        batch = Batch(self.model, self.logits, x, y, keys, strength, soft, follower)
        one = shared(self.model, recipe.lesson.prepared(batch, adversary))
        loss = torch.zeros((), device=self.device)
        for _ in range(recipe.lesson.replays):
            self._clear()
            awp = recipe.awp
            loss = one() if awp is None else awp.taken(self.model, one, self._clear)
            for penalty in recipe.penalties:
                more = penalty(self.model)
                more.backward()
                loss = loss + more.detach()
            self.optimiser.step()
            if self.average is not None:
                self.average.update()
        return loss

    def _followed(self, mode: str | None) -> Follower | None:
        """A cheaper model to craft by, where the adversary crafts in eval mode and one is found."""
        adversary = self.recipe.adversary
        if not isinstance(adversary, Adversary) or adversary.train_mode:
            return None
        if self.recipe.lesson.replays > 1:  # it crafts by the passes that learn
            return None
        return Follower.of(self.model, self.recipe.precision, self._few(), mode)

    def _few(self) -> Tensor:
        """Images on which a follower is compared with the model."""
        return self.data.batch(torch.arange(min(len(self.keys), GLANCE)))[0]

    def _clear(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)

    @property
    def _guarded(self) -> bool:
        recipe = self.recipe
        if recipe.adversary is None or not recipe.guard:
            return False
        return recipe.adversary.is_one_step or recipe.lesson.is_one_step

    def _watch(self, state: State, row: dict[str, float]) -> None:
        """Adds held-out accuracies to the epoch's row and remembers the best weights."""
        every = self.recipe.watch_every
        last = state.epoch == self.recipe.epochs
        if self._guarded and self._collapsed(state, row):
            return
        if self.val is None or not every or (state.epoch % every and not last):
            return
        row["val_clean"] = percent_right(self.model, self.val)
        threat = self._watched_threat()
        if threat is not None:
            few = self.val.select(slice(0, WATCHED_IMAGES))
            attack = evaluation_pgd(threat, steps=10)
            verdict = evaluate(self.model, few, threat, attacks=[attack], fast=False)
            row["val_robust"] = verdict.robust
        score = row["val_clean"] if self.recipe.adversary is None else row["val_robust"]
        if score > state.best_score:
            if self.recipe.select == "best" or self.recipe.patience:
                self._keep(state, score)
            else:
                state.best_score = score
            state.looks = 0
        elif self._warm(state.epoch):
            state.looks += 1
        if self.recipe.patience and state.looks >= self.recipe.patience and not last:
            state.stopped = (
                f"Stopped early in epoch {state.epoch}: no better score on held-out images in "
                f"{state.looks} looks. The weights are those of epoch {state.best_epoch}."
            )

    def _warm(self, epoch: int) -> bool:
        """Whether learning rate and adversary had their full size in the epoch, 1..epochs."""
        recipe = self.recipe
        adversary = recipe.adversary
        grown = adversary is None or adversary.strength(epoch - 1, recipe.epochs) >= 1
        return grown and epoch > recipe.warmup * recipe.epochs

    def _collapsed(self, state: State, row: dict[str, float]) -> bool:
        """Whether robust accuracy has collapsed, which ends the training."""
        adversary, data = self.recipe.adversary, self.val or self.source
        assert adversary is not None
        now = robust_on(self.model, data, Threat.parse(adversary.threat))
        row["guard_robust"] = now
        if collapsed(now, state.guarded, 100 / data.classes):
            if not state.best:  # nothing was chosen on the way
                state.best, state.best_epoch = state.sound, state.sound_epoch
            state.stopped = (
                f"Catastrophic overfitting in epoch {state.epoch}: robust accuracy under PGD-10 "
                f"fell from {state.guarded:.1f} to {now:.1f} %. The weights are those of epoch "
                f"{state.best_epoch}. Use more steps, N-FGSM (NoisyStep) or a smaller eps."
            )
        elif now > state.guarded:
            state.guarded, state.sound_epoch, state.sound = now, state.epoch, self._weights()
        return bool(state.stopped)

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}

    def _keep(self, state: State, score: float) -> None:
        state.best_score, state.best_epoch, state.best = score, state.epoch, self._weights()

    def _watched_threat(self) -> Threat | None:
        if self.recipe.watch_threat is not None:
            return Threat.parse(self.recipe.watch_threat)
        adversary = self.recipe.adversary
        return None if adversary is None else Threat.parse(adversary.threat)


def _diverged(what: str, epoch: int, rate: float) -> TrainingError:
    return TrainingError(
        f"The training {what} in epoch {epoch + 1} at learning rate {rate:.3g}. "
        "Lower `lr` or raise `warmup`; the data itself was checked to be finite."
    )
