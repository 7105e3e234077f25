"""A report page as data: sections, tables and figures, which `notbugs.report` draws.

In texts, captions and axes, {name} is a setting of the run. Rows whose name begins with "control"
are drawn as controls: hatched or dashed. `chance` names a column whose value is drawn as a line.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Column:
    """How a column is written.

    - `title`: its head; `text`: what it means
    - `digits`: after the point, or None for three significant digits
    - `unit`: after the number, such as "%"
    """

    title: str
    text: str = ""
    digits: int | None = 1
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the run: all its rows; `columns` None takes all columns that have numbers."""

    table: str
    caption: str
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Bars:
    """Bars of columns for each row of a table, with their spread over seeds.

    - `at_largest`: of rows "robust at 0.5", "robust at 1" only that of the largest number
    """

    table: str
    columns: tuple[str, ...]
    caption: str
    axis: str
    rows: tuple[str, ...] | None = None
    chance: str | None = None
    at_largest: bool = False


@dataclass(frozen=True)
class Lines:
    """Lines over x: rows of a table whose names end in a number, grouped by what precedes it.

    A row "robust at 0.5" is the point at x = 0.5 of the line "robust", one for each column.

    - `lines`: their names, or None for all
    """

    table: str
    columns: tuple[str, ...]
    caption: str
    axis: str
    x_axis: str
    lines: tuple[str, ...] | None = None
    chance: str | None = None


@dataclass(frozen=True)
class Matrix:
    """A table as a coloured matrix, every column of it or those named."""

    table: str
    caption: str
    axis: str
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scatter:
    """A point a row and seed of a table: one column over another."""

    table: str
    x: str
    y: str
    caption: str


@dataclass(frozen=True)
class PictureRows:
    """Rows of images: the pictures of the names, each with its label.

    Where there are also "NAME.labels", NAME less its last part, the classes stand above the
    pictures, in colour where they differ from "NAME.true_labels", which then stand below. Rows
    whose pictures a run does not have are left out.

    - `names`: one a row, or several, which stand beside each other
    - `labels`: one a row; {3} in it is the name of class 3
    - `heads`: lines above rows, by the row's place
    """

    names: tuple[str | tuple[str, ...], ...]
    labels: tuple[str, ...]
    caption: str
    heads: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Curves:
    """Lines of stored numbers [k] over others, on a logarithmic axis.

    - `names`: of the numbers, among the pictures; `x`: those of the horizontal axis
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    x: str
    caption: str
    axis: str
    x_axis: str


Figure: TypeAlias = Bars | Lines | Matrix | Scatter | PictureRows | Curves


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, a text, figures and tables."""

    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
