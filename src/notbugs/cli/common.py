"""Shared by several commands: devices, data, models and output folders."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from notbugs.attacks.named import method_named
from notbugs.core import processes
from notbugs.core.errors import DataError, StoreError, bad_value
from notbugs.core.schema import read_json_file
from notbugs.core.strict_json import to_json
from notbugs.data import load
from notbugs.data.files import SUFFIX
from notbugs.judge import wilson
from notbugs.models import Classifier, load_user_model, prepare, read_metadata
from notbugs.models import load as load_model
from notbugs.models.origin import loaded
from notbugs.models.weights import MODEL
from notbugs.store import is_store
from notbugs.zoo.addresses import weights_at

MARKER = "notbugs-run.json"


def device_of(name: str) -> str:
    """The device to use: "auto" means CUDA if available; in a distributed run this process's GPU.

    **Raises** ValueError when CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if processes.count() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise bad_value("device", "be auto, cpu or cuda for several processes", f"'{name}'")
        return f"cuda:{torch.cuda.current_device()}"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise bad_value("device", "be available", f"'{name}'", "Use --device cpu.")
    if name != "cpu" and not name.startswith("cuda"):
        raise bad_value("device", "be auto, cpu or cuda", f"'{name}'")
    return name


def claim_folder(out: Path, identity: Mapping[str, str]) -> None:
    """Marks `out` as the folder of one run; refuses it if it holds anything else.

    **Raises** StoreError for a folder with other files, of another run, or one that cannot be
    written.
    """
    marker = out / MARKER
    try:
        if marker.exists():
            other = read_json_file(
                dict[str, str], marker, remedy="Choose another folder with --out.", error=StoreError
            )
            if other != dict(identity):
                raise StoreError(
                    f"'{out}' holds another run ({_words(other)}); this one is "
                    f"{_words(identity)}. Choose another folder with --out."
                )
            return
        out.mkdir(parents=True, exist_ok=True)
        if any(entry.name != f".{MARKER}" and not is_store(entry) for entry in out.iterdir()):
            raise StoreError(
                f"'{out}' is not empty and not a run of notbugs. Choose an empty folder with "
                "--out, so that nothing of yours is touched."
            )
        _mark(marker, identity)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"Cannot use '{out}' as output folder: {error}. Choose another with --out."
        ) from error


def restore_marker(out: Path, identity: Mapping[str, str]) -> None:
    """Writes the marker of `claim_folder` again if the folder was deleted in the meantime.

    **Raises** StoreError where it cannot be written.
    """
    try:
        if not (out / MARKER).exists():
            out.mkdir(parents=True, exist_ok=True)
            _mark(out / MARKER, identity)
    except OSError as error:
        raise StoreError(f"Cannot write to '{out}': {error}. Choose another with --out.") from error


def _mark(marker: Path, identity: Mapping[str, str]) -> None:
    part = marker.with_name(f".{MARKER}")
    part.write_text(to_json(dict(identity)))
    part.replace(marker)  # atomic, so that a kill here does no harm


def _words(identity: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items())


def default_workers(device: str) -> int:
    """The number of worker processes: one per core on the CPU; 0 (this process) on a GPU."""
    return 0 if device.startswith("cuda") else max(1, os.cpu_count() or 1)


def open_model(
    weights: Path, model: str | None, embedding: str | None, data: str | None, data_dir: Path | None
) -> tuple[Classifier, dict[str, Any]]:
    """A classifier and the metadata of its weights, from a notbugs file or with a user's module.

    - `weights`: a file, the folder that `train` wrote, zoo:NAME or hub:OWNER/REPO; for a `model`
      also a file of `torch.save`, whose tensors alone are read
    - `model`: path/to/file.py:factory; with weights of others `data` must be given
    - `embedding`: None: what the weights name, else the input of the last linear layer

    **Raises** DataError where there is no such file, or where it needs a module.
    """
    weights = weights_at(weights)
    facts = facts_of(weights)
    user_facts = facts if facts and facts["architecture"] is None else {}
    if model is None:
        if user_facts:
            spec = user_facts.get("model", "path/to/file.py:factory")
            raise DataError(
                f"'{weights}' holds the weights of a model of your own. Pass its module: "
                f"--model {spec}."
            )
        return load_model(weights)
    embedding = embedding or user_facts.get("embedding")
    if data is None and not user_facts:
        raise bad_value("--data", "be given with --model", None, "Name the dataset.")
    shape, classes = _sizes(user_facts, data, data_dir)
    classifier = load_user_model(
        model, weights=weights, embedding=embedding, shape=shape, classes=classes
    )
    return classifier, facts


def facts_of(weights: Path) -> dict[str, Any]:
    """The metadata of weights that notbugs wrote; empty for a plain state dict."""
    try:
        return read_metadata(weights)
    except DataError:
        return {}


def _sizes(
    facts: Mapping[str, Any], data: str | None, data_dir: Path | None
) -> tuple[tuple[int, int, int], int]:
    """Image shape and number of classes, from the weights' metadata or the dataset."""
    if facts:
        channels, height, width = facts["shape"]
        return (channels, height, width), facts["classes"]
    assert data is not None
    saved = saved_set(data)
    like = loaded(data, data_dir).train if saved is None else load(saved)
    return like.shape, like.classes


def saved_set(data: str | None) -> Path | None:
    """The file, where `--data` names a saved set."""
    return Path(data) if data is not None and data.endswith(SUFFIX) else None


def check_taken(method: str, options: Mapping[str, Any]) -> None:
    """Refuses an option, given by its flag, that the method does not take; None is none.

    **Raises** ValueError, also for an unknown method.
    """
    takes = method_named(method).takes
    flags = {name: f"--{name.replace('_', '-')}" for name in (*options, *takes)}
    for name, value in options.items():
        if value is not None and name not in takes:
            known = ", ".join(flags[n] for n in takes) or "none"
            raise bad_value(flags[name], f"be an option of {method}", value, f"It takes: {known}.")


def below_chance(right: int, count: int, classes: int) -> str:
    """A sentence where fewer images are right than by guessing (95 % confidence); else empty."""
    chance = 100 / classes
    if wilson(right, count)[1] >= chance:
        return ""
    return (
        f"Only {right} of {count} images are right as they are, fewer than by guessing "
        f"({chance:.3g} %): the model may number its classes otherwise, or want other images "
        "(their range, their normalisation)."
    )


def moved(model: Classifier, device: str) -> Classifier:
    """The model on the requested device."""
    return prepare(model, device_of(device))


def model_names(paths: Sequence[Path]) -> list[str]:
    """What tells the models apart: the file's name, the folder's, or the whole path."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise bad_value("weights", "name each model once", ", ".join(map(str, paths)))
    short = [path.parent.resolve().name if path.name == MODEL else path.stem for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]
