"""Checkpoints for exact resume: the whole training state in one safetensors file."""

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from notbugs.core.errors import CheckpointError, DataError
from notbugs.core.schema import read_json
from notbugs.core.strict_json import to_json
from notbugs.data import ImageData, safefile
from notbugs.models import Classifier
from notbugs.models.state import check_state
from notbugs.training.average import Average
from notbugs.training.recipe import Recipe

KEY = "notbugs-checkpoint"
"""The key of a checkpoint's description in its metadata."""
REMEDY = "Choose another folder, or restart with --overwrite (restart=True)."


class Learner(NamedTuple):
    """All that a training step changes."""

    model: Classifier
    optimiser: torch.optim.Optimizer
    average: Average | None


@dataclass
class State:
    """The progress of a training: epochs done, what was measured, the best weights so far.

    - `batch`: batches done in the current epoch; `loss`: the sum of their losses
    - `looks`: evaluations on held-out images since the best one
    - `stopped`: why training ended early
    - `guarded`: the best robust accuracy of the guard against catastrophic overfitting, in epoch
      `sound_epoch` with the weights `sound`

    Random draws need no state: they depend on the seed, the epoch and the row alone; those of
    layers on the seed and the step (`core/global_rng.py`); the order of the batches on seed and
    epoch, and the first `batch` of them are skipped.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    best_score: float = float("-inf")
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    looks: int = 0
    stopped: str = ""
    guarded: float = float("-inf")
    sound_epoch: int = 0
    sound: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the current weights on the CPU."""
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


def owner_of(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    seed: int,
    val: ImageData | None,
    soft: Tensor | None = None,
    compile_mode: str | None = None,
    extra: ImageData | None = None,
    share: float = 0.0,
) -> str:
    """A digest of all that the trained weights depend on; `val` is None where it is not used."""
    shapes = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
    facts = (model.architecture, shapes, data.digest, recipe, seed)
    text = repr(facts if val is None else (*facts, val.digest))
    if soft is not None:
        text += hashlib.sha256(soft.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    text += "" if compile_mode is None else f"compiled: {compile_mode}"
    text += "" if extra is None else f"extra: {extra.digest} {share}"
    return hashlib.sha256(text.encode()).hexdigest()


def save(path: Path, learner: Learner, state: State, owner: str) -> None:
    """Writes a checkpoint atomically. `owner` tells which training it belongs to."""
    model, optimiser, average = learner
    parts = {"model": model.state_dict(), "best": state.best, "sound": state.sound}
    parts |= {"momentum": _momentum(optimiser), "average": average.state if average else {}}
    tensors = {f"{part}.{k}": v.contiguous() for part in parts for k, v in parts[part].items()}
    facts = {"owner": owner, "averaged": average.steps if average else 0}
    facts |= {f.name: getattr(state, f.name) for f in fields(Facts) if f.name not in facts}
    safefile.write_tensors(path, tensors, {KEY: to_json(facts)})


@dataclass(frozen=True)
class Facts:
    """The metadata of a checkpoint: numbers of `State`, null where they are not finite."""

    owner: str
    epoch: int
    history: list[dict[str, float | None]]
    best_score: float | None
    best_epoch: int
    looks: int
    stopped: str
    guarded: float | None
    sound_epoch: int
    averaged: int
    batch: int = 0  # older versions saved only after an epoch
    loss: float = 0.0


Saved: TypeAlias = tuple[dict[str, Tensor], Facts]
"""A checkpoint as it was read: tensors by name, and its metadata."""


def read(path: Path, owner: str) -> Saved | None:
    """The checkpoint at `path`; None where there is none.

    **Raises** CheckpointError for one of another training and for a damaged file.
    """
    if not path.exists():
        return None
    with _remedied(path):
        text = safefile.read_header(path).get(KEY)
        if text is None:
            raise DataError("It is no checkpoint of a training. Choose another folder.")
        facts = read_json(Facts, text, of="its description", remedy="Choose another folder.")
        tensors, _ = safefile.read_tensors(path)
    if facts.owner != owner:
        raise CheckpointError(
            f"The checkpoint {path} belongs to another model, dataset, recipe, seed or mode of "
            f"compilation. {REMEDY}"
        )
    return tensors, facts


@contextmanager
def _remedied(path: Path) -> Generator[None, None, None]:
    """Adds the remedy for a checkpoint to an error of its reader."""
    try:
        yield
    except DataError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be resumed. {error} Or restart with "
            "--overwrite (restart=True)."
        ) from error


def restored(saved: Saved, learner: Learner, path: Path) -> State:
    """Loads the checkpoint of `path` into the learner, and returns its state.

    **Raises** CheckpointError where its tensors do not fit; nothing is then changed.
    """
    (model, optimiser, average), (tensors, facts) = learner, saved
    with _remedied(path):
        for part in ("model.", "best.", "sound.", "average."):
            if part == "model." or _under(part, tensors):
                check_state(model.state_dict(), _under(part, tensors), path)
        buffers, current = _under("momentum.", tensors), _momentum(optimiser)
        check_state({k: v for k, v in current.items() if k in buffers}, buffers, path)
    model.load_state_dict(_under("model.", tensors))
    for k, buffer in buffers.items():
        current[k].copy_(buffer)
    if average is not None and _under("average.", tensors):
        average.begin(_under("average.", tensors), facts.averaged)
    numbers = {f.name: getattr(facts, f.name, None) for f in fields(State)}
    numbers |= {"best": _under("best.", tensors), "sound": _under("sound.", tensors)}
    numbers["history"] = [_numbers(row) for row in facts.history]
    return State(**{k: v for k, v in numbers.items() if v is not None})


def _numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in row.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _momentum(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The momentum buffers by the number of their parameter, not copied."""
    moments = {str(k): v.get("momentum_buffer") for k, v in optimiser.state_dict()["state"].items()}
    return {k: buffer for k, buffer in moments.items() if buffer is not None}
