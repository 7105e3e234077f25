"""Training, standard or adversarial: one function, and an estimate of its time."""

import copy
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from notbugs.core.errors import TrainingError, bad_value
from notbugs.core.global_rng import fork_global_rng
from notbugs.data import ImageData, batches
from notbugs.models import Classifier, prepare, prepared
from notbugs.models.fast import check_mode
from notbugs.models.mean_sparse import operators
from notbugs.training.checkpoint import Learner, owner_of
from notbugs.training.extra import SHARE, check_extra
from notbugs.training.recipe import Recipe
from notbugs.training.saving import Saver
from notbugs.training.stopping import checks_of
from notbugs.training.together import check_divides
from notbugs.training.trainer import Trainer

COMPILERS = ("torch._dynamo.", "torch._inductor.")
"""Where the errors of `torch.compile` are defined; importing them would take a second."""


@dataclass(frozen=True, repr=False)
class Trained:
    """The result of a training: the model (the one passed in) and its history.

    `history` holds one row per epoch: epoch, loss, lr, and `val_clean` and `val_robust` in percent
    where they were measured. `stopped` says why training ended early, "" where it did not.
    """

    model: Classifier
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    stopped: str = ""

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {}
        count = len(self.history)
        parts = [f"{count} epoch{'s' * (count != 1)} in {self.seconds:.1f} s"]
        parts += [f"loss {last['loss']:.4g}"] if "loss" in last else []
        for key, name in (("val_clean", "held-out clean"), ("val_robust", "robust")):
            values = [row[key] for row in self.history if key in row]
            parts += [f"{name} accuracy {values[-1]:.2f} %"] if values else []
        parts += [f"weights of epoch {self.best_epoch}"] if self.best_epoch is not None else []
        parts += ["stopped early"] if self.stopped else []
        return f"Trained({', '.join(parts)})"


@prepared()
def train(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    val: ImageData | None = None,
    soft: Tensor | None = None,
    extra: ImageData | None = None,
    share: float = SHARE,
    checkpoint_path: Path | None = None,
    compile_mode: str | None = None,
    restart: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
    on_epoch: Callable[[list[dict[str, float]]], None] = lambda history: None,
) -> Trained:
    """Trains `model` in place on `data` and returns it in eval mode.

    Its weights are stored in the memory format that trains fastest (`prepare`). Several processes
    (`notbugs.core.processes`) each take an equal part of every batch, and end with the same
    weights: those of one process up to the order of sums (dropout draws differ).

    - `seed`: for order, augmentation and adversary of every epoch
    - `val`: held-out data to evaluate on, and to select by if the recipe's `select` is not "last"
    - `soft` [n, k]: class probabilities from a teacher, for training objectives that use them
    - `extra`: further images, such as generated ones, of the same shape and classes; their labels
      may be a model's predictions. Rows of every batch are taken from them (`TrainingRows`), and
      are augmented and perturbed as the others
    - `share`: of `extra` in every batch, between 0 and 1. An epoch sees as many images as `data`
      holds, of both together
    - `checkpoint_path`: a safetensors file that the first process writes every few seconds, also
      within an epoch; training resumes from it and ends with the same weights
    - `compile_mode`: compile forward and backward passes in that mode of `torch.compile`. This
      takes up to half a minute or more at the beginning, and hardly pays on a CPU. Rounding
      differs, so a checkpoint of another mode is refused.
    - `restart`: where the checkpoint is damaged or of another training, begin and overwrite it
    - `progress`: called with the fraction done, 0..1
    - `on_epoch`: called with the whole history after every epoch

    With a `checkpoint_path`, training ends after the current step on the first Ctrl-C or SIGTERM,
    and writes a checkpoint; a second one stops at once. (Of several processes each stops at once.)

    **Raises** ValueError for data that does not fit, for an unknown `compile_mode` and for one with
    an adversary that cannot be compiled; TrainingError where the loss is no longer finite and where
    compiling fails; CheckpointError for a damaged checkpoint or another's, unless `restart`;
    `notbugs.core.interrupts.Stopped`, a KeyboardInterrupt, after such a signal.
    """
    if operators(model):
        raise bad_value(
            "model", "have no MeanSparse yet", "one with it", "Train first, then `mean_sparse`."
        )
    _check(data, recipe, val, soft, compile_mode)
    if extra is not None:
        check_extra(data, extra, share, recipe.batch_size)
        _check_alone(soft)
    prepare(model, model.device)
    began = time.perf_counter()
    trainer = Trainer(model, data, recipe, seed, soft, compile_mode, extra, share)
    checks = checks_of(recipe, data, val)
    watched = val if checks else None
    owner = owner_of(model, data, recipe, seed, watched, soft, compile_mode, extra, share)
    learner = Learner(model, trainer.optimiser, trainer.average)
    saver = Saver(checkpoint_path, owner, learner, restart=restart)
    with saver.delaying_signals(), _explained(compile_mode):
        state = trainer.run(saver, checks, progress, on_epoch)
    chosen = recipe.select != "last" or bool(state.stopped)
    if chosen and state.best:
        model.load_state_dict(state.best)
    elif trainer.average is not None:
        model.load_state_dict(trainer.average.state)
    model.eval()
    best = state.best_epoch if chosen else None
    return Trained(model, state.history, best, time.perf_counter() - began, state.stopped)


def _check(
    data: ImageData, recipe: Recipe, val: ImageData | None, soft: Tensor | None, mode: str | None
) -> None:
    """Refuses arguments that do not fit together, before training."""
    if recipe.select != "last" and val is None:
        raise bad_value(
            "val", f"be given with select='{recipe.select}'", None, "Hold some training images out."
        )
    if recipe.batch_size > len(data):
        raise bad_value(
            "batch_size",
            f"not exceed the {len(data)} training images",
            recipe.batch_size,
            f"Fewer images than a batch: use a batch size of at most {len(data)}, or more data.",
        )
    check_divides(recipe.batch_size)
    check_compiles(recipe, mode)
    if soft is not None and soft.shape != (len(data), data.classes):
        raise bad_value("soft", f"have shape ({len(data)}, {data.classes})", tuple(soft.shape))


def _check_alone(soft: Tensor | None) -> None:
    """Refuses a teacher's probabilities beside an extra set, which has none."""
    if soft is not None:
        raise bad_value(
            "soft",
            "be left out with `extra`",
            f"probabilities of {len(soft)} images",
            "Give the extra images the classes that the teacher predicts: "
            "extra.with_labels(notbugs.judge.predictions(teacher, extra)).",
        )


@contextmanager
def _explained(mode: str | None) -> Generator[None, None, None]:
    """Adds the remedy to an error of `torch.compile`."""
    try:
        yield
    except RuntimeError as error:
        if mode is None or not type(error).__module__.startswith(COMPILERS):
            raise
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"torch could not compile the model ({first}). Leave "
            "`compile_mode` (--compile) out; on a processor it needs a C++ compiler such as g++."
        ) from error


def check_compiles(recipe: Recipe, mode: str | None) -> None:
    """Refuses an unknown compilation mode (None: no compilation), and a recipe that has none."""
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
def estimate(model: Classifier, data: ImageData, recipe: Recipe) -> float:
    """About how many seconds `train` takes, from the second of two timed steps of a copy.

    Held-out evaluation is not included.
    """
    check_divides(recipe.batch_size)
    trial = Trainer(copy.deepcopy(model), data, recipe)
    trial.model.train()
    index = next(batches(len(data), recipe.batch_size, seed=0, epoch=0, shuffle=False))
    seconds = 0.0
    with fork_global_rng(trial.device, "estimate"):
        for _ in range(2):
            began = time.perf_counter()
            float(trial.step(recipe.epochs - 1, index.to(trial.device), recipe.lr))
            seconds = time.perf_counter() - began
    return seconds * trial.per_epoch * recipe.epochs
