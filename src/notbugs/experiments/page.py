"""A report page as data: sections, tables and figures, which `notbugs.report` draws."""

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
    """Bars of columns for each row of a table, with their spread over seeds."""

    table: str
    columns: tuple[str, ...]
    caption: str
    axis: str
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lines:
    """Lines over x: rows of a table whose names end in a number, grouped by what precedes it.

    A row "robust at 0.5" is the point at x = 0.5 of the line "robust".
    """

    table: str
    column: str
    caption: str
    axis: str
    x_axis: str


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

    A name that ends in ".difference" is drawn around grey, magnified as its label says.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    caption: str


Figure: TypeAlias = Bars | Lines | Matrix | Scatter | PictureRows


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, a text, figures and tables."""

    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
