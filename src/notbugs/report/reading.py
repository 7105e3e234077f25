"""Reads and validates a run's folder: results.json and the sample pictures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from notbugs.core.errors import DataError
from notbugs.core.schema import read_json_file
from notbugs.data import safefile
from notbugs.experiments.results import RESULTS, SAMPLES
from notbugs.report.schemas import Result

REMEDY = "Name the folder that `notbugs reproduce` wrote, after its run has ended, or run it again."
CONTROL = "leak:"
"""The prefix of a leakage-only control's name, before the name of its set."""

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SetRow:
    """One row of a table: a training set at one radius, with means and deviations."""

    name: str
    eps: float | None
    seeds: int
    values: Mapping[str, float | None]

    def mean(self, column: str) -> float | None:
        """The mean over seeds; None where the column does not apply."""
        return self.values.get(column)

    def std(self, column: str) -> float | None:
        """The standard deviation over seeds; None for a single seed."""
        return self.values.get(f"{column}_std")

    def is_upper_bound(self, column: str) -> bool:
        """Whether a masking check fired, so that the truth may lie far below the mean."""
        return bool(self.values.get(f"{column}_upper_bound"))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the row's numbers, without deviations and bounds."""
        return tuple(c for c in self.values if not c.endswith(("_std", "_upper_bound")))

    @property
    def is_control(self) -> bool:
        """Whether this is the leakage-only control of another set."""
        return self.name.startswith(CONTROL)


@dataclass(frozen=True)
class Run:
    """A finished run as the report sees it: its results and its sample pictures."""

    result: Mapping[str, Any]
    sets: tuple[SetRow, ...]
    planted: tuple[SetRow, ...]
    classes: tuple[str, ...]
    samples: Arrays

    @property
    def title(self) -> str:
        """The dataset's name as its source gives it."""
        return str(self.result["dataset"])

    @property
    def conditions(self) -> Mapping[str, Any]:
        """The conditions of the run: data, threat, evaluation, settings."""
        return self.result["conditions"]

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings of the run."""
        return self.conditions["config"]

    @property
    def norm(self) -> str:
        """The norm of every radius of the run: "l2" or "linf"."""
        return str(self.config["norm"])

    @property
    def eps_eval(self) -> float:
        """The radius of the robust accuracies, in pixel units."""
        return float(self.config["eps_eval"])

    @property
    def chance(self) -> float:
        """The accuracy of guessing in percent."""
        return 100.0 / len(self.classes)

    def curve(self, name: str) -> list[SetRow]:
        """The rows of a set by growing radius."""
        return sorted((r for r in self.sets if r.name == name), key=lambda r: r.eps or 0.0)

    def at_largest(self) -> list[SetRow]:
        """One row per set, in the order of the table: the one at its largest radius."""
        names = dict.fromkeys(r.name for r in self.sets)
        return [self.curve(name)[-1] for name in names]


def read_run(folder: Path) -> Run:
    """The run in `folder`; pictures are optional, results are not.

    **Raises** DataError where results.json is missing, damaged or not written by notbugs, or
    the samples are damaged.
    """
    result = read_result(folder / RESULTS)
    tables = result["tables"]
    return Run(
        result=result,
        sets=tuple(set_row(r) for r in tables["sets"]),
        planted=tuple(set_row(r) for r in tables.get("planted", [])),
        classes=tuple(str(c) for c in result["conditions"]["classes"]),
        samples=read_samples(folder / SAMPLES),
    )


def read_result(path: Path) -> dict[str, Any]:
    """The content of a results.json of ilyas2019.

    **Raises** DataError where it is missing, damaged or not written by notbugs.
    """
    result = checked(Result, path)
    for place, rows in (
        ("/tables/sets", result["tables"]["sets"]),
        ("/conditions/classes", result["conditions"]["classes"]),
    ):
        if not rows:
            raise DataError(f"'{path}' is damaged: {place}: expected some, got none. {REMEDY}")
    return result


def checked(kind: type[Any], path: Path) -> dict[str, Any]:
    """The content of a results.json, validated against the schema `kind`.

    **Raises** DataError where it is missing, damaged or not written by notbugs.
    """
    read_json_file(kind, path, remedy=REMEDY)
    return read_json_file(dict[str, Any], path, remedy=REMEDY)


def set_row(row: Mapping[str, Any]) -> SetRow:
    """A row of a table in results.json; non-finite numbers become None."""
    values = {k: _number(v) for k, v in row.items() if k not in ("set", "eps", "seeds")}
    return SetRow(str(row["set"]), _number(row.get("eps")), int(row.get("seeds", 1)), values)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_samples(path: Path) -> Arrays:
    """The pictures by name; empty where a run kept none."""
    if not path.is_file():
        return {}
    try:
        tensors, _ = safefile.read_tensors(path, what="data")
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (DataError, TypeError) as error:  # NumPy lacks some dtypes
        raise DataError(
            f"'{path}' is damaged ({error}). Run the same command to write it again."
        ) from error
