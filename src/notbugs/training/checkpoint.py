"""Exact resume: everything the next step depends on, in one safetensors file."""

import hashlib
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from notbugs.core.errors import CheckpointError, DataError
from notbugs.core.schema import read_json
from notbugs.core.strict_json import to_json
from notbugs.data import ImageData, safefile
from notbugs.models import Classifier
from notbugs.models.state import check_state
from notbugs.training.recipe import Recipe

KEY = "notbugs-checkpoint"
"""The key of a checkpoint's description in its metadata."""
REMEDY = "Choose another folder, or begin anew with --overwrite (anew=True)."


@dataclass
class State:
    """Where a training stands: epochs done, what was measured, the best weights so far.

    `batch` counts the batches done in the epoch under way, `loss` is the sum of their losses.
    `looks` counts the looks since the best; `stopped` says why it ended before its time;
    `guarded` is the best robust accuracy that the guard has seen, `sound` the weights then,
    in epoch `sound_epoch`. `average` are the moving
    average's weights, of so many `averaged` steps.

    Randomness needs no state: every draw is a function of the seed, the epoch and the row, and
    what layers draw from the global generators one of the seed and the step (`core/draws.py`).
    So does the order of the batches: the first `batch` of them are left out.
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
    averaged: int = 0
    average: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass
class Pace:
    """When a checkpoint is due: some seconds after the last one, later where writing is slow.

    Writing takes a twentieth of the time at most; `took` is what the last one took, in seconds.
    """

    last: float = field(default_factory=lambda: time.perf_counter())
    took: float = 0.0

    def due(self, seconds: float) -> bool:
        """Whether `seconds`, or twenty times what writing took, have passed; 0: always."""
        wait = max(seconds, 20 * self.took) if seconds else 0.0
        return time.perf_counter() - self.last > wait

    def written(self, began: float) -> None:
        """Starts anew after a checkpoint whose writing `began` then (`time.perf_counter`)."""
        self.last = time.perf_counter()
        self.took = self.last - began


def owner_of(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    seed: int,
    val: ImageData | None,
    soft: Tensor | None = None,
    compile_mode: str | None = None,
) -> str:
    """A digest of all that a training's end depends on; `val` is None where it is not watched."""
    shapes = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
    facts = (model.architecture, shapes, data.digest, recipe, seed)
    text = repr(facts if val is None else (*facts, val.digest))
    if soft is not None:
        text += hashlib.sha256(soft.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    text += "" if compile_mode is None else f"compiled: {compile_mode}"
    return hashlib.sha256(text.encode()).hexdigest()


def save(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: State, owner: str
) -> None:
    """Writes a checkpoint atomically. `owner` tells which training it belongs to."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v.contiguous() for k, v in state.best.items()}
    tensors |= {f"sound.{k}": v.contiguous() for k, v in state.sound.items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in state.average.items()}
    for number, moments in optimiser.state_dict()["state"].items():
        if moments.get("momentum_buffer") is not None:
            tensors[f"momentum.{number}"] = moments["momentum_buffer"]
    facts = {f.name: getattr(state, f.name) for f in fields(Facts) if f.name != "owner"}
    safefile.write_tensors(path, tensors, {KEY: to_json(facts | {"owner": owner})})


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says beside its tensors; those of `State`, where null is not finite."""

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
    batch: int = 0  # those of older versions stand at the end of an epoch
    loss: float | None = 0.0


Saved: TypeAlias = tuple[dict[str, Tensor], Facts]
"""A checkpoint as it was read: tensors by name, and the rest."""


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
    """Adds to the error of a reader what helps where the file is a checkpoint."""
    try:
        yield
    except DataError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be gone on from. {error} Or begin anew with "
            "--overwrite (anew=True)."
        ) from error


def restored(saved: Saved, model: nn.Module, optimiser: torch.optim.Optimizer, path: Path) -> State:
    """Puts model and optimiser where the checkpoint of `path` stands, and returns its state.

    **Raises** CheckpointError where its tensors are not theirs; both are then unchanged.
    """
    tensors, facts = saved
    with _remedied(path):
        for part in ("model.", "best.", "sound.", "average."):
            if part == "model." or _under(part, tensors):
                check_state(model.state_dict(), _under(part, tensors), path)
        held = {str(i): p for i, p in enumerate(_weights(optimiser))}
        buffers = _under("momentum.", tensors)
        check_state({k: v for k, v in held.items() if k in buffers}, buffers, path)
    model.load_state_dict(_under("model.", tensors))
    _restore_momentum(optimiser, buffers)
    lowest = float("-inf")
    return State(
        epoch=facts.epoch,
        batch=facts.batch,
        loss=float("nan") if facts.loss is None else facts.loss,
        history=[_numbers(row) for row in facts.history],
        best_score=lowest if facts.best_score is None else facts.best_score,
        best_epoch=facts.best_epoch,
        best=_under("best.", tensors),
        looks=facts.looks,
        stopped=facts.stopped,
        guarded=lowest if facts.guarded is None else facts.guarded,
        sound_epoch=facts.sound_epoch,
        sound=_under("sound.", tensors),
        averaged=facts.averaged,
        average=_under("average.", tensors),
    )


def _numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in row.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_momentum(optimiser: torch.optim.Optimizer, buffers: Mapping[str, Tensor]) -> None:
    whole: dict[str, Any] = optimiser.state_dict()
    weights, zero = _weights(optimiser), torch.zeros(())
    # In the weights' own memory format: the fused step takes their entries in order of memory.
    # A file of an older version lacks those of layers that had not joined yet.
    whole["state"] = {
        k: {"momentum_buffer": torch.zeros_like(weight).copy_(buffers.get(str(k), zero))}
        for k, weight in enumerate(weights)
        if str(k) in buffers or (buffers and weight.requires_grad)
    }
    optimiser.load_state_dict(whole)


def _weights(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]
