"""A report page as data: sections, tables and figures, which `notbugs.report` draws.

In texts, captions and axes, {name} is a setting of the run. Rows that are controls (`is_control`)
are drawn hatched or dashed. `chance` names a column whose value is drawn as a line. Columns and
rows that a run does not have are left out.
"""

from dataclasses import dataclass
from typing import TypeAlias

from notbugs.experiments.numbers import Cell


def is_control(row: str) -> bool:
    """Whether a row is a control by its name: "leak:SET", or "SET/control"."""
    return row.startswith(LEAK) or "/" in row.partition(" at ")[0]


def uncontrolled(row: str) -> str:
    """The row that a control is the control of; of another row, its name."""
    return row.removeprefix(LEAK).partition("/")[0] if is_control(row) else row


LEAK = "leak:"


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
    """A table of the run: all its rows; `columns` None takes all columns that have numbers.

    - `limit`: a setting; rows "NAME at NUMBER" of a larger number are marked with `beyond`
    """

    table: str
    caption: str
    columns: tuple[str, ...] | None = None
    limit: str | None = None
    beyond: str = ""


@dataclass(frozen=True)
class Question:
    """What a sceptic asks, the control that answers it, and its numbers.

    - `cells`: the last is the control's; a run that lacks its row leaves the question out
    """

    question: str
    control: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Questions:
    """A table of questions."""

    caption: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Bars:
    """Bars of columns for each row of a table, or those named, with their spread over seeds.

    - `labels`: what is written beside the rows, in place of their names
    - `legend`: what the columns are called, in place of their titles
    """

    table: str
    columns: tuple[str, ...]
    caption: str
    axis: str
    rows: tuple[str, ...] | None = None
    chance: str | None = None
    labels: tuple[str, ...] | None = None
    legend: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lines:
    """Lines over x: rows of a table whose names end in a number, grouped by what precedes it.

    A row "robust at 0.5" is the point at x = 0.5 of the line "robust", one for each column.

    - `lines`: their names, or None for all
    - `limit`: a setting, up to which the axis is shaded, with `within` written there
    - `logarithmic`: the horizontal axis
    """

    table: str
    columns: tuple[str, ...]
    caption: str
    axis: str
    x_axis: str
    lines: tuple[str, ...] | None = None
    chance: str | None = None
    limit: str | None = None
    within: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class Matrix:
    """A table as a coloured matrix, every column of it or those named."""

    table: str
    caption: str
    axis: str
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scatter:
    """A point a row and seed of a table: one column over another.

    Rows "standard at 3" and the like are points of one kind, "standard".

    - `zero`: with lines where y is 0, and where it is x
    - `kinds`: in the order of their colours, which they keep where others have no points
    - `apart`: a kind that the axes do not reach out for
    """

    table: str
    x: str
    y: str
    caption: str
    zero: bool = False
    kinds: tuple[str, ...] = ()
    apart: str = ""


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
    """Lines of stored numbers [k] over others; those that a run does not have are left out.

    - `names`: of the numbers, among the pictures; `x`: those of the horizontal axis
    - `labels`: a line without one is drawn as the one before it
    - `logarithmic`: the vertical axis
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    x: str
    caption: str
    axis: str
    x_axis: str
    logarithmic: bool = True


Figure: TypeAlias = Bars | Lines | Matrix | Scatter | PictureRows | Curves


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, a text, figures and tables."""

    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table | Questions, ...] = ()
