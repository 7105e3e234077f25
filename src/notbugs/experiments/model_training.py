"""Builds and trains models in a folder, for the experiments and for `notbugs train`."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from notbugs.core import processes
from notbugs.core.errors import CheckpointError, DataError, bad_value
from notbugs.data import ImageData, channel_stats
from notbugs.models import Classifier, build, load_user_model, save
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.training import SHARE, Recipe, Trained, train

T = TypeVar("T")
History: TypeAlias = Callable[[list[dict[str, float]]], None]
"""What is called with a row of numbers for each epoch so far."""


USER = "user"
"""The architecture name that stands for the user's own module."""


@dataclass(frozen=True)
class Net:
    """An architecture, and what it is pretrained as.

    - `architecture`: a built-in one, or `USER`: see `user_net`
    - `options`: of the architecture, as names and values
    - `autoencoder`: epochs in which the trunk is first trained as a sparse autoencoder's encoder,
      and then fixed; 0: none
    """

    architecture: str
    options: tuple[tuple[str, Any], ...] = ()
    autoencoder: int = 0


def user_net(spec: str, embedding: str | None) -> Net:
    """The user's own module, with the digest of its file.

    - `spec`: path/to/file.py:factory; `embedding`: the layer whose output is the embedding; None:
      the input of the last linear layer

    **Raises** ValueError where there is no such file.
    """
    path = Path(spec.rpartition(":")[0])
    if not path.is_file():
        raise bad_value("--model", "name a file, as path/to/file.py:factory", f"'{spec}'")
    place = str(path.resolve()) + ":" + spec.rpartition(":")[2]
    return Net(USER, (("spec", place), ("embedding", embedding or ""), ("digest", _digest(place))))


def _digest(spec: str) -> str:
    return hashlib.sha256(Path(spec.rpartition(":")[0]).read_bytes()).hexdigest()


def new_model(net: Net, data: ImageData, seed: int) -> Classifier:
    """An untrained model for images like `data`, with normalisation by its mean and deviation."""
    mean, std = channel_stats(data)
    shape, classes, options = data.shape, data.classes, dict(net.options)
    if net.architecture == USER and "spec" in options:
        spec, layer = options["spec"], options["embedding"]
        if _digest(spec) != options["digest"]:
            raise DataError(f"The file of '{spec}' changed during the run. Start it again.")
        return load_user_model(
            spec,
            embedding=str(layer) or None,
            shape=shape,
            classes=classes,
            mean=mean,
            std=std,
            seed=seed,
        )
    return build(
        net.architecture,
        shape=shape,
        classes=classes,
        seed=seed,
        mean=mean,
        std=std,
        options=options,
    )


def restarting(job: Callable[[bool], T], notice: Callable[[str], None]) -> T:
    """`job(False)`, which may resume; from the start, `job(True)`, if its checkpoint is damaged."""
    try:
        return job(False)
    except CheckpointError:
        notice("Its checkpoint is damaged, or of another version: training restarts.")
        return job(True)


def train_in(
    folder: Path,
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    metadata: Mapping[str, Any],
    val: ImageData | None = None,
    soft: Tensor | None = None,
    extra: ImageData | None = None,
    share: float = SHARE,
    compile_mode: str | None = None,
    restart: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
    on_epoch: History = lambda history: None,
    on_end: History = lambda history: None,
) -> Trained:
    """Trains a model and saves it in `folder`, resuming from the checkpoint there.

    - `metadata`: saved with the weights, beside the history
    - `on_end`: called with the whole history before the model is saved

    The other arguments, and what is raised, are those of `train`.
    """
    path = folder / CHECKPOINT
    done = train(
        model,
        data,
        recipe,
        seed=seed,
        val=val,
        soft=soft,
        extra=extra,
        share=share,
        checkpoint_path=path,
        compile_mode=compile_mode,
        restart=restart,
        progress=progress,
        on_epoch=on_epoch,
    )
    on_end(done.history)
    if processes.is_first():
        save(model, folder / MODEL, metadata={**metadata, "history": done.history})
        path.unlink(missing_ok=True)
    return done
