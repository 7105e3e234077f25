"""Checks a command's output paths before it works: against its inputs and existing files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from notbugs.cli.common import facts_of, saved_set
from notbugs.cli.kinds import RECIPE, SET, Kind
from notbugs.core import processes
from notbugs.core.errors import StoreError, bad_value
from notbugs.data import SOURCES
from notbugs.data.sources import files_of
from notbugs.data.writing import write_json
from notbugs.models.origin import origin_of
from notbugs.zoo.addresses import weights_at

IMAGE_FOLDER = SOURCES[-1].partition("PATH")[0]
"""The prefix of a dataset name that stands for a folder of the user's images."""


@dataclass(frozen=True)
class Output:
    """A file or folder that a command will write, and its kind."""

    path: Path
    kind: Kind


@dataclass(frozen=True)
class Inputs:
    """What a command reads: files, and folders of images with all their content."""

    files: Sequence[Path] = ()
    folders: Sequence[Path] = ()


def inputs_of(
    *,
    weights: Path | None = None,
    model: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    others: Sequence[Path | None] = (),
) -> Inputs:
    """The files and folders that the common arguments name.

    Without `data` the dataset is the one that the weights name.

    **Raises** DataError where `weights` is a folder without weights.
    """
    files = [path for path in others if path is not None]
    files += [] if weights is None else [weights_at(weights)]
    files += [] if model is None else [Path(model.rpartition(":")[0])]
    if data is None and weights is not None:
        data = origin_of(facts_of(weights_at(weights))).get("dataset")
    if data is None:
        return Inputs(files)
    if data.startswith(IMAGE_FOLDER):
        return Inputs(files, [Path(data.removeprefix(IMAGE_FOLDER)).expanduser()])
    saved = saved_set(data)
    return Inputs([*files, *(files_of(data, data_dir) if saved is None else [saved])])


def set_at(path: Path, flag: str) -> dict[str, Output]:
    """The outputs of saving a set: its file, and the .json beside it."""
    beside = Output(path.with_suffix(".json"), RECIPE)
    return {flag: Output(path, SET), f"{flag}'s recipe": beside}


def check_outputs(outputs: Mapping[str, Output], inputs: Inputs, *, overwrite: bool) -> None:
    """Refuses outputs that cannot be written or would replace files of another kind.

    - `outputs`: keyed by the flags that name them
    - `overwrite`: also replace files that notbugs did not write, or wrote as another kind; never
      inputs

    **Raises** ValueError for an output that is an input or another output, or lies in one;
    StoreError for one that would replace another file, and where it cannot be written.
    """
    processes.from_first(lambda: _check(outputs, inputs, overwrite=overwrite))


def _check(outputs: Mapping[str, Output], inputs: Inputs, *, overwrite: bool) -> None:
    _check_apart(outputs)
    for flag, output in outputs.items():
        _check_inputs(flag, output.path, inputs)
        _check_there(flag, output, overwrite=overwrite)
    for output in outputs.values():
        hidden = output.path.with_name(f".{output.path.name}.tmp")
        _check_writable(hidden if output.kind.folder else output.path, named=output.path)


def _check_apart(outputs: Mapping[str, Output]) -> None:
    """Refuses two outputs of one name, or one inside the other."""
    seen: dict[str, str] = {}
    for flag, output in outputs.items():
        # Names that differ in case alone are one file on some systems.
        name = os.path.realpath(output.path).casefold()
        for other, of in seen.items():
            if name == other:
                raise bad_value(flag, f"differ from {of}", f"'{output.path}'", "Name another file.")
            if _is_inside(name, other) or _is_inside(other, name):
                raise bad_value(
                    flag, f"lie apart from {of}", f"'{output.path}'", "Name another place."
                )
        seen[name] = flag


def _check_inputs(flag: str, path: Path, inputs: Inputs) -> None:
    """Refuses to overwrite an input, also through links."""
    for read in inputs.files:
        if _is_same(path, read):
            raise bad_value(
                flag, "differ from the files that are read", f"'{path}'", "Name another file."
            )
    for folder in inputs.folders:
        if _is_inside(os.path.realpath(path), os.path.realpath(folder)) or _is_same(path, folder):
            raise bad_value(
                flag, f"lie outside the images in '{folder}'", f"'{path}'", "Name another place."
            )


def _check_there(flag: str, output: Output, *, overwrite: bool) -> None:
    path, kind = output.path, output.kind
    if not os.path.lexists(path) or kind.is_ours(path):
        return
    if kind.folder:
        raise StoreError(f"'{path}' ({flag}) is already there and not empty. Choose another name.")
    if path.is_dir():
        raise StoreError(f"Cannot write '{path}' ({flag}): it is a folder. Choose another name.")
    if not overwrite:
        raise StoreError(
            f"'{path}' ({flag}) is already there, and is not {kind.words} that notbugs wrote. "
            "Choose another name, or pass --overwrite to replace it."
        )


def _check_writable(path: Path, *, named: Path) -> None:
    """Refuses a path that cannot be written."""
    existed = os.path.lexists(path)
    new = [folder for folder in path.parents if not os.path.lexists(folder)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if not existed:
            path.unlink()
        for folder in new:
            folder.rmdir()
    except OSError as error:
        raise StoreError(
            f"Cannot write '{named}': {error.strerror}. Choose another file."
        ) from error


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, also through links or in another case."""
    try:
        return os.path.realpath(one) == os.path.realpath(other) or one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def write_numbers(path: Path, numbers: Mapping[str, object]) -> None:
    """Writes a command's numbers as JSON; in a distributed run only the first process writes."""
    if processes.is_first():
        write_json(path, numbers)
