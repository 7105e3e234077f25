"""The numbers of a run: table, row, column, and one value a seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from notbugs.experiments.claims import mean, spread

Columns = Mapping[str, float | None]
"""A row of a table for one seed; None where a column does not apply."""
Values = Sequence[float | None]
"""One value a seed."""


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
    def collect(cls, rows: Iterable[tuple[str, str, int, Columns]], seeds: int) -> "Numbers":
        """From (table, row, seed, columns), in the order of the tables."""
        tables: dict[str, dict[str, dict[str, list[float | None]]]] = {}
        for table, row, seed, columns in rows:
            cells = tables.setdefault(table, {}).setdefault(row, {})
            for column, value in columns.items():
                cells.setdefault(column, [None] * seeds)[seed] = value
        return cls(tables)

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

    def _known(self, cell: Cell) -> list[float]:
        values = self.tables.get(cell.table, {}).get(cell.row, {}).get(cell.column, ())
        return [value for value in values if value is not None and math.isfinite(value)]

    def columns(self, table: str) -> list[str]:
        """The columns of a table that some row has a number in, in order of appearance."""
        rows = self.tables.get(table, {})
        names = dict.fromkeys(column for row in rows.values() for column in row)
        return [
            name
            for name in names
            if any(v is not None for row in rows.values() for v in row.get(name, ()))
        ]
