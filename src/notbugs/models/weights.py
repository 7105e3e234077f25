"""Weights in and out: safetensors with a description of the model, never an unsafe pickle."""

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
from notbugs.models.prepared import plainly
from notbugs.models.state import put_state, state_of
from notbugs.models.wrap import wrap
from notbugs.models.zoo import build

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"
"""The files in a folder that a training writes."""
KEY = "notbugs.weights"
FORMAT = 1
REMEDY = "Copy it again, or make it anew."


class Versioned(TypedDict):
    """What every version of a description begins with."""

    format: int


class Description(Versioned):
    """What a weights file says of its model; what else is there is the caller's own."""

    architecture: str | None
    options: dict[str, Any]
    shape: list[int]
    classes: int
    embedding: str
    mean: list[float]
    std: list[float]


RESERVED = tuple(get_type_hints(Description))


def save(model: Classifier, path: Path | str, *, metadata: Mapping[str, JSON] = {}) -> None:
    """Writes the model to a safetensors file, atomically.

    The file describes the model (architecture, options, shape, classes, embedding, mean,
    std) and holds `metadata` beside it, as one JSON text, so that it needs nothing else.

    Args:
        model: it is not changed, and may be on any device.
        path: the file to write; its folder is created if need be.
        metadata: anything JSON holds: dataset, split, class names, recipe.

    Raises:
        ValueError: `metadata` is not JSON, or uses a name the description needs.
        StoreError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    taken = [name for name in RESERVED if name in metadata]
    if taken:
        raise bad_value(
            "metadata",
            f"leave the names {', '.join(RESERVED)} to the model",
            f"the key '{taken[0]}'",
            "Rename it.",
        )
    text = _to_json({**_describe(model), **metadata})
    write_tensors(path, state_of(model), {KEY: text})


def weights_in(path: Path | str) -> Path:
    """The weights file of that name, or the one in a folder that `train` wrote.

    **Raises** DataError for a folder without one; what is there is named.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    there = sorted(str(p.relative_to(path)) for p in path.rglob("*.safetensors"))
    if (path / CHECKPOINT).is_file():
        found = "but a checkpoint: this training was not finished. Run its command again."
    elif there:
        more = " and more" if len(there) > 3 else ""
        found = f"but {', '.join(there[:3])}{more}. Name the file."
    else:
        found = "nor any other .safetensors file. Name the file."
    raise DataError(f"The folder '{path}' holds no {MODEL}, {found}")


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What `save` wrote beside the weights: the model's description and the caller's metadata.

    Raises:
        DataError: the file is missing, a pickle, corrupt, or not written by `save`.
    """
    path = weights_in(path)
    return _parse(path, read_header(path))


@plainly()
def load(path: Path | str, module: nn.Module | None = None) -> tuple[Classifier, dict[str, Any]]:
    """The classifier a file holds, on the CPU in eval mode, and its metadata.

    Args:
        path: a file written by `save`, or the folder that a training wrote.
        module: for a model that is not built in, its own module, into which the weights go.

    Raises:
        DataError: the file is missing, a pickle, corrupt, not written by `save`, needs
            `module`, or holds the weights of another model.
    """
    path = weights_in(path)
    metadata = read_metadata(path)  # what is wrong there is named before the tensors are read
    tensors, _ = read_tensors(path)
    try:
        model = _rebuild(path, metadata, module)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"The description in '{path}' does not give a model: {error}") from error
    # It has the precision the model was saved in; `put_state` refuses any other dtype.
    if "mean" in tensors and tensors["mean"].is_floating_point():
        model.to(tensors["mean"].dtype)
    put_state(model, tensors, path)
    return model.eval(), metadata


def load_into(model: Classifier, path: Path | str) -> dict[str, Any]:
    """Puts a file's weights (mean and std among them) into `model`; returns its metadata.

    Raises:
        DataError: the file is missing, a pickle, corrupt, not written by `save`, or holds
            the weights of another model. The model is then unchanged.
    """
    path = weights_in(path)
    metadata = read_metadata(path)  # what is wrong there is named before the tensors are read
    tensors, _ = read_tensors(path)
    theirs = (metadata["architecture"], metadata["shape"], metadata["classes"])
    ours = (model.architecture, list(model.shape), model.classes)
    if theirs != ours:
        raise DataError(
            f"'{path}' holds another model: (architecture, shape, classes) is {theirs}, "
            f"but the model's is {ours}. Load it with `load`."
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
    }


def _to_json(content: Mapping[str, JSON]) -> str:
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        parse_json(text)  # what cannot be read again
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
            "weights: load_model(path, module=...), or --model path/to/file.py:factory."
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
