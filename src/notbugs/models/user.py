"""A user's own model from a Python file, with their weights, as a `Classifier`."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from notbugs.core.errors import bad_type, bad_value, unknown_name
from notbugs.data.checkpoint import is_checkpoint
from notbugs.data.safefile import read_header
from notbugs.models.classifier import Classifier, Shape
from notbugs.models.converted import load_checkpoint
from notbugs.models.initial import seeded
from notbugs.models.mean_sparse import insert_described
from notbugs.models.prepared import plainly
from notbugs.models.weights import KEY, load_into, read_metadata
from notbugs.models.wrap import wrap


@plainly()
def load_user_model(
    spec: str,
    *,
    weights: Path | None = None,
    embedding: str | None = None,
    shape: Shape,
    classes: int,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
) -> Classifier:
    """A classifier from "path/to/file.py:factory", in eval mode on the CPU.

    The file is imported and thus run, so use only files that you trust; it may import from its
    own folder. The factory takes no arguments and returns an `nn.Module` from normalised images
    to logits; it may be a module class.

    Args:
        spec: the file and the factory's name, with a colon between them.
        weights: a safetensors file written by `save` (its mean and std are then used), or of
            a state dict of the module; or a file of `torch.save`, whose tensors alone are read
            (`load_checkpoint`). None keeps the factory's weights.
        embedding: dotted name of the layer that gives the embedding; None: as in `wrap`.
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        mean: subtracted from the images in [0, 1]: one number, or one a channel; None: what a file
            of `torch.save` holds, else 0.
        std: the images are then divided by it: one number, or one a channel; None: as for `mean`,
            else 1.
        seed: of the factory's random initial weights; the caller's random state is kept.

    Raises:
        ValueError: no such file or factory, the file or factory fails, or the module does
            not meet the requirements of `wrap`.
        TypeError: the factory does not return a module.
        DataError: the weights are missing, corrupt, or of another model.
    """
    file, name = _split(spec)
    with seeded(seed, "init", name), _importable(file.parent):
        module = _call(_find(_import(file), file, name), spec)
    if weights is not None and not _is_ours(weights):
        found = load_checkpoint(module, weights, by_order=False)
        mean, std = found.mean if mean is None else mean, found.std if std is None else std
        weights = None
    mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
    model = wrap(module, shape=shape, classes=classes, embedding=embedding, mean=mean, std=std)
    if weights is not None:
        insert_described(model, read_metadata(weights))
        load_into(model, weights)
    return model.eval()


def _is_ours(weights: Path) -> bool:
    """Whether `save` wrote the file."""
    return not is_checkpoint(weights) and KEY in read_header(weights)


def _split(spec: str) -> tuple[Path, str]:
    path, colon, name = spec.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise bad_value(
            "model", "have the form path/to/file.py:factory", f"'{spec}'", "Name both parts."
        )
    file = Path(path).expanduser()
    if not file.is_file():
        raise bad_value("model", "name a Python file", f"no file '{file}'", "Check the path.")
    return file.resolve(), name


_MODULE_PREFIX = "notbugs_user_"
"""Prefix of the module names of imported user files."""


@contextmanager
def _importable(folder: Path) -> Generator[None, None, None]:
    entry, before = str(folder), set(sys.modules)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
        # Otherwise a model of another folder would import this one's modules of the same name.
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if (
                origin
                and Path(origin).is_relative_to(folder)
                and not name.startswith(_MODULE_PREFIX)
            ):
                del sys.modules[name]


def _import(file: Path) -> ModuleType:
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"{_MODULE_PREFIX}{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise bad_value("model", "name a Python file", f"'{file}'", "Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise bad_value(
            "model",
            "name a Python file that can be imported",
            f"{type(error).__name__} from '{file}': {error}",
            "Run the file by itself to see where.",
        ) from error
    return module


def _find(module: ModuleType, file: Path, name: str) -> Any:
    names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
    if name not in vars(module):
        raise unknown_name(f"factory in {file.name}:", name, names)
    return vars(module)[name]


def _call(factory: Any, spec: str) -> nn.Module:
    remedy = "Write one, for example: def factory(): return Net(depth=3)."
    if isinstance(factory, nn.Module) or not callable(factory):
        raise bad_type(f"factory '{spec}'", "a function that makes a module", factory, remedy)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise bad_value("factory", "take no arguments", f"'{spec}': {error}", remedy) from error
    try:
        module = factory()
    except (Exception, SystemExit) as error:
        raise bad_value(
            "factory", "return a module", f"{type(error).__name__} from '{spec}': {error}", remedy
        ) from error
    if not isinstance(module, nn.Module):
        raise bad_type(f"what '{spec}' returns", "a torch.nn.Module", module, remedy)
    return module
