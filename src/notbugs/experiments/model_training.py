"""Builds and trains models in a folder, for the experiments and for `notbugs train`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from notbugs.core import processes
from notbugs.data import ImageData, channel_stats
from notbugs.experiments.config import USER
from notbugs.models import Classifier, build, load_user_model, save
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.training import Recipe, Trained, train


def new_model(
    architecture: str, options: Mapping[str, Any], data: ImageData, seed: int
) -> Classifier:
    """An untrained model for images like `data`, with normalisation by its mean and deviation.

    - `architecture`: a built-in one, or `USER`: a module that the `options` "spec" and "embedding"
      name
    """
    mean, std = channel_stats(data)
    shape, classes = data.shape, data.classes
    if architecture == USER and options:
        spec, layer = options["spec"], options["embedding"]
        return load_user_model(
            spec, embedding=layer, shape=shape, classes=classes, mean=mean, std=std, seed=seed
        )
    return build(
        architecture, shape=shape, classes=classes, seed=seed, mean=mean, std=std, options=options
    )


def train_in(
    folder: Path,
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    metadata: Mapping[str, Any],
    on_end: Callable[[list[dict[str, float]]], None] = lambda history: None,
    **settings: Any,
) -> Trained:
    """Trains a model and saves it in `folder`, resuming from the checkpoint there.

    - `metadata`: saved with the weights, beside the history
    - `on_end`: called with the whole history before the model is saved
    - `settings`: the other arguments of `train`; see there for the errors raised
    """
    path = folder / CHECKPOINT
    done = train(model, data, recipe, checkpoint_path=path, **settings)
    on_end(done.history)
    if processes.is_first():
        save(model, folder / MODEL, metadata={**metadata, "history": done.history})
        path.unlink(missing_ok=True)
    return done
