"""Weights that a training starts from, also those of a model of another number of classes."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.data.safefile import read_tensors
from notbugs.models.classifier import Classifier
from notbugs.models.state import put_state, state_of
from notbugs.models.weights import read_metadata, weights_in


def load_start(model: Classifier, path: Path | str) -> tuple[str, ...]:
    """Loads a file's weights (mean and std included) into `model`; returns the names left out.

    If the file's model has another number of classes, the tensors with one row per class, which
    are those of the last layer, keep the values that `model` was made with; otherwise none is
    left out.

    - `path`: a file written by `save`, also of a converted checkpoint, or the folder that a
      training wrote

    Example:
        >>> import tempfile
        >>> from notbugs.models import build, save
        >>> folder = tempfile.mkdtemp()
        >>> save(build("linear", shape=(1, 8, 8), classes=10, seed=0), f"{folder}/w.safetensors")
        >>> model = build("linear", shape=(1, 8, 8), classes=3, seed=1)
        >>> load_start(model, f"{folder}/w.safetensors")
        ('body.head.weight', 'body.head.bias')

    **Raises** DataError where the file is missing, a pickle, corrupt, not written by `save`, or of
    a model that differs in more than the number of classes. The model is then unchanged.
    """
    path = weights_in(path)
    metadata = read_metadata(path)  # first, for its errors
    shape, classes = metadata["shape"], metadata["classes"]
    if shape != list(model.shape):
        raise DataError(
            f"'{path}' holds a model of images of shape {tuple(shape)}, not {model.shape}. Start "
            "from a model of such images, or resize yours."
        )
    if "mean_sparse" in metadata:
        raise DataError(
            f"'{path}' holds a model with MeanSparse, whose statistics would not follow a "
            "training. Start from the weights before it was sparsified."
        )
    tensors, _ = read_tensors(path)
    state = state_of(model)
    left = _rows_of_classes(state, tensors, classes, model.classes)
    put_state(model, {**tensors, **{name: state[name] for name in left}}, path)
    return left


def _rows_of_classes(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], before: int, now: int
) -> tuple[str, ...]:
    """The tensors that have `before` rows in the file and `now` in the model."""

    def differs(name: str) -> bool:
        new, old = state[name].shape, tensors[name].shape
        return (*new[:1], *old[:1]) == (now, before) and new[1:] == old[1:]

    if before == now:
        return ()
    return tuple(name for name in state if name in tensors and differs(name))
