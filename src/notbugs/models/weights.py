"""Saves and loads models as safetensors with a description; never as a pickle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from torch import nn

from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json
from notbugs.core.strict_json import parse_json
from notbugs.data.safefile import read_header, read_tensors, write_tensors
from notbugs.models.classifier import JSON, Classifier
from notbugs.models.mean_sparse import Described, described, insert_described
from notbugs.models.prepared import plainly
from notbugs.models.state import put_state, state_of
from notbugs.models.wrap import wrap
from notbugs.models.zoo import build

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"
"""The files that training writes into a folder."""
KEY = "notbugs.weights"
FORMAT = 1
REMEDY = "Copy it again, or make a new one."


class Versioned(TypedDict):
    """The field that every format version has."""

    format: int


class Description(Versioned, Described):
    """The description of the model in a weights file; other keys are the caller's metadata."""

    architecture: str | None
    options: dict[str, Any]
    shape: list[int]
    classes: int
    embedding: str | None
    mean: list[float]
    std: list[float]


RESERVED = tuple(get_type_hints(Description))


def save(model: Classifier, path: Path | str, *, metadata: Mapping[str, JSON] = {}) -> None:
    """Writes the model to a safetensors file, atomically.

    The file also holds a description of the model (architecture, options, shape, classes,
    embedding, mean, std) and `metadata`, as one JSON text.

    Args:
        model: it is not changed, and may be on any device.
        path: the file to write; its folder is created if need be.
        metadata: anything JSON holds: dataset, split, class names, recipe.

    Raises:
        ValueError: `metadata` is not JSON, or uses a name the description needs.
        StoreError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    clashes = [name for name in RESERVED if name in metadata]
    if clashes:
        raise bad_value(
            "metadata",
            f"leave the names {', '.join(RESERVED)} to the model",
            f"the key '{clashes[0]}'",
            "Rename it.",
        )
    text = _to_json({**_describe(model), **metadata})
    write_tensors(path, state_of(model), {KEY: text})


def weights_in(path: Path | str) -> Path:
    """The path itself, or for a folder the weights file that `train` wrote there.

    **Raises** DataError for a folder without one; the message names what it holds.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    others = sorted(str(p.relative_to(path)) for p in path.rglob("*.safetensors"))
    if (path / CHECKPOINT).is_file():
        content = "but a checkpoint: this training was not finished. Run its command again."
    elif others:
        more = " and more" if len(others) > 3 else ""
        content = f"but {', '.join(others[:3])}{more}. Name the file."
    else:
        content = "nor any other .safetensors file. Name the file."
    raise DataError(f"The folder '{path}' holds no {MODEL}, {content}")


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The model's description and the caller's metadata in a weights file.

    Raises:
        DataError: the file is missing, a pickle, corrupt, or not written by `save`.
    """
    path = weights_in(path)
    return _parse(path, read_header(path))


@plainly()
def load(path: Path | str, module: nn.Module | None = None) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a weights file, on the CPU in eval mode, and its metadata.

    Args:
        path: a file written by `save`, or the folder that a training wrote.
        module: for a model that is not built in, its module; the weights are loaded into it.

    Raises:
        DataError: the file is missing, a pickle, corrupt, not written by `save`, needs
            `module`, or holds the weights of another model.
    """
    path = weights_in(path)
    metadata = read_metadata(path)  # first, for its errors
    tensors, _ = read_tensors(path)
    try:
        model = _rebuild(path, metadata, module)
        insert_described(model, metadata)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"The description in '{path}' does not give a model: {error}") from error
    # The precision the model was saved in; `put_state` refuses other dtypes.
    if "mean" in tensors and tensors["mean"].is_floating_point():
        model.to(tensors["mean"].dtype)
    put_state(model, tensors, path)
    return model.eval(), metadata


def load_into(model: Classifier, path: Path | str) -> dict[str, Any]:
    """Loads a file's weights (mean and std included) into `model`; returns its metadata.

    Raises:
        DataError: the file is missing, a pickle, corrupt, not written by `save`, or holds
            the weights of another model. The model is then unchanged.
    """
    path = weights_in(path)
    metadata = read_metadata(path)  # first, for its errors
    tensors, _ = read_tensors(path)
    saved = (metadata["architecture"], metadata["shape"], metadata["classes"])
    expected = (model.architecture, list(model.shape), model.classes)
    if saved != expected:
        raise DataError(
            f"'{path}' holds another model: (architecture, shape, classes) is {saved}, "
            f"but the model's is {expected}. Load it with `load`."
        )
    put_state(model, tensors, path)
    return metadata


def _describe(model: Classifier) -> dict[str, JSON]:
    return {
        "format": FORMAT,
        "architecture": model.architecture,
        "options": model.options,
        "shape": list(model.shape),
        "classes": model.classes,
        "embedding": model.embedding,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        **described(model),
    }


def _to_json(content: Mapping[str, JSON]) -> str:
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        parse_json(text)  # raises for values that could not be read again
        return text
    except (RecursionError, TypeError, ValueError) as error:
        raise bad_value(
            "metadata",
            "hold only what JSON can: text, finite numbers, lists, mappings",
            f"'{error}'",
            "Convert tensors with .tolist() and paths with str().",
        ) from error


def _parse(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in header:
        raise DataError(
            f"'{path}' is a safetensors file, but not one of notbugs' weights files: it does "
            "not say which model it belongs to. Load it with a module (path/to/file.py:factory)."
        )
    of = f"the description in '{path}'"
    version = read_json(Versioned, header[KEY], of=of, remedy=REMEDY)["format"]
    if version != FORMAT:
        raise DataError(
            f"'{path}' has weights format {version}; this version reads {FORMAT}. Update notbugs."
        )
    return dict(read_json(Description, header[KEY], of=of, remedy=REMEDY))


def _rebuild(path: Path, metadata: Mapping[str, Any], module: nn.Module | None) -> Classifier:
    shape: Sequence[int] = metadata["shape"]
    channels, height, width = shape
    name: str | None = metadata["architecture"]
    if name is None and module is None:
        raise DataError(
            f"'{path}' holds a model that is not built in. Pass its module together with the "
            "weights: nb.load_model(path, module), or --model path/to/file.py:factory."
        )
    if module is not None:
        return wrap(
            module,
            shape=(channels, height, width),
            classes=metadata["classes"],
            embedding=metadata["embedding"],
            mean=metadata["mean"],
            std=metadata["std"],
        )
    return build(
        str(name),
        shape=(channels, height, width),
        classes=metadata["classes"],
        seed=0,
        mean=metadata["mean"],
        std=metadata["std"],
        options=metadata["options"],
    )
