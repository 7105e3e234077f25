"""Reads and validates a run's folder: results.json and the pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy.typing as npt

from notbugs.core.errors import DataError
from notbugs.core.schema import read_json_file
from notbugs.data import safefile
from notbugs.experiments.results import PICTURES, RESULTS

REMEDY = "Name the folder that `notbugs reproduce` wrote, after its run has ended, or run it again."

Arrays = Mapping[str, npt.NDArray[Any]]


class ClaimRow(TypedDict):
    """A claim, the numbers that decide it, and whether it holds."""

    statement: str
    published: str
    ours: float | None
    std: float | None
    control: float | None
    holds: bool | None
    rule: str
    fixed: str
    why: str
    seeds: int


class Settings(TypedDict):
    """The settings that every paper has."""

    seeds: int
    digest: str


class Images(TypedDict):
    """How many images there were."""

    train: int
    val: int
    test: int


class Versions(TypedDict):
    """What the numbers were computed with; other entries are kept."""

    notbugs: str


class Conditions(TypedDict):
    """Under which conditions the numbers hold."""

    images: Images
    shape: list[int]
    classes: list[str]
    config: Settings


class Results(TypedDict):
    """The results of a paper: its tables hold one value a seed."""

    experiment: str
    dataset: str
    preset: str
    command: str
    conditions: Conditions
    claims: list[ClaimRow]
    tables: dict[str, dict[str, dict[str, list[float | None]]]]
    seconds: float
    seconds_total: float
    seconds_wall: float
    versions: Versions


def read_results(folder: Path) -> dict[str, Any]:
    """The content of results.json in a folder, validated.

    **Raises** DataError where it is missing, damaged or not written by notbugs.
    """
    path = folder / RESULTS
    results = cast("dict[str, Any]", read_json_file(Results, path, remedy=REMEDY))
    tables = results["tables"]
    places = {"/tables": tables, **{f"/tables/{name}": rows for name, rows in tables.items()}}
    for place, content in places.items():
        if not content:
            raise DataError(f"'{path}' is damaged: {place}: expected some, got none. {REMEDY}")
    shape = results["conditions"]["shape"]
    if len(shape) != 3:
        raise DataError(f"'{path}' is damaged: /conditions/shape: expected 3 entries. {REMEDY}")
    return results


def read_pictures(folder: Path) -> Arrays:
    """The pictures of a folder by name; empty where a run kept none.

    **Raises** DataError where they are damaged.
    """
    path = folder / PICTURES
    if not path.is_file():
        return {}
    try:
        tensors, _ = safefile.read_tensors(path, what="data")
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (DataError, TypeError) as error:  # NumPy lacks some dtypes
        raise DataError(
            f"'{path}' is damaged ({error}). Run the same command to write it again."
        ) from error
