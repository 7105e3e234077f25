"""The numbers of a run: table, row, column, and one value a seed."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from scipy.special import stdtrit

from notbugs.core.errors import DataError

SeedValues: TypeAlias = Sequence[float]
LEVEL = 0.95
"""Confidence level of the one-sided intervals: at most 5 % of false claims are said to hold."""
FEWEST = 3
"""The smallest number of seeds that can decide a claim."""
Columns = Mapping[str, float | None]
"""A row of a table for one seed; None where a column does not apply."""
Tables = Mapping[str, Mapping[str, Columns]]
"""Rows of several tables for one seed: table -> row -> column -> number."""
UPPER_BOUND = "_upper_bound"
"""The end of the names of columns that mark others as upper bounds."""
Values = Sequence[float | None]
"""One value a seed."""


def mean(values: SeedValues) -> float:
    """The mean over seeds."""
    return statistics.fmean(values)


def means(rows: Sequence[Columns]) -> Columns:
    """The means of columns over rows; None where one has no number."""
    columns = {name: [numbers[name] for numbers in rows] for name in rows[0]}
    return {
        name: None if None in values else sum(v or 0.0 for v in values) / len(values)
        for name, values in columns.items()
    }


def spread(values: SeedValues) -> float | None:
    """The standard deviation over seeds (n - 1); None for a single seed."""
    return statistics.stdev(values) if len(values) > 1 else None


def interval(values: SeedValues, level: float = LEVEL) -> tuple[float, float] | None:
    """The one-sided lower and upper confidence bounds of the mean over seeds.

    By Student's t: mean -+ t(level, n - 1) * deviation / sqrt(n). None for fewer than `FEWEST`
    seeds, whose deviation is too uncertain, and where a value is not finite.
    """
    n = len(values)
    if n < FEWEST or not all(map(math.isfinite, values)):
        return None
    deviation = statistics.stdev(values)
    half = float(stdtrit(n - 1, level)) * deviation / math.sqrt(n)
    return mean(values) - half, mean(values) + half


@dataclass(frozen=True)
class Cell:
    """A place in a run's tables."""

    table: str
    row: str
    column: str

    def __str__(self) -> str:
        return f"{self.table} / {self.row} / {self.column}"


@dataclass(frozen=True)
class Numbers:
    """All numbers of a run: table -> row -> column -> one value a seed."""

    tables: Mapping[str, Mapping[str, Mapping[str, Values]]]

    @classmethod
    def collect(cls, parts: Iterable[tuple[int, Tables]], seeds: int) -> "Numbers":
        """From (seed, tables), in the order of the tables and rows.

        **Raises** DataError where two rows of a table have the same name and other numbers.
        """
        collected: dict[str, dict[str, dict[str, list[float | None]]]] = {}
        for seed, tables in parts:
            for table, rows in tables.items():
                for row, columns in rows.items():
                    cells = collected.setdefault(table, {}).setdefault(row, {})
                    for column, value in columns.items():
                        found = cells.setdefault(column, [None] * seeds)
                        if found[seed] is not None and found[seed] != value:
                            raise DataError(
                                f"Two rows of the table '{table}' are called '{row}'. Use settings "
                                "that differ by more, as they are written."
                            )
                        found[seed] = value
        return cls(collected)

    def values(self, cell: Cell) -> tuple[float, ...]:
        """The cell's value for each seed; none at all where a seed lacks a finite one."""
        values = self.tables.get(cell.table, {}).get(cell.row, {}).get(cell.column, ())
        numbers = tuple(value for value in values if value is not None and math.isfinite(value))
        return numbers if len(numbers) == len(values) else ()

    def mean(self, cell: Cell) -> float | None:
        """The mean over the seeds that have the cell; None where none has."""
        known = self._known(cell)
        return mean(known) if known else None

    def spread(self, cell: Cell) -> float | None:
        """The standard deviation over the seeds that have the cell; None for fewer than two."""
        known = self._known(cell)
        return spread(known) if known else None

    def seeds(self, cell: Cell) -> int | None:
        """How many seeds have the cell, where only some of them do; else None."""
        values = self.tables.get(cell.table, {}).get(cell.row, {}).get(cell.column, ())
        known = len(self._known(cell))
        return known if 0 < known < len(values) else None

    def _known(self, cell: Cell) -> list[float]:
        values = self.tables.get(cell.table, {}).get(cell.row, {}).get(cell.column, ())
        return [value for value in values if value is not None and math.isfinite(value)]

    def is_upper_bound(self, cell: Cell) -> bool:
        """Whether, in some seed, the value is only an upper bound: NAME_upper_bound is not 0."""
        return any(self._known(replace(cell, column=cell.column + UPPER_BOUND)))

    def columns(self, table: str) -> list[str]:
        """The columns of a table that some row has a number in, in order of appearance."""
        rows = self.tables.get(table, {})
        names = dict.fromkeys(column for row in rows.values() for column in row)
        return [
            name
            for name in names
            if not name.endswith(UPPER_BOUND)
            and any(v is not None for row in rows.values() for v in row.get(name, ()))
        ]
