"""`Sheet`: images laid out at their true size on pages of paper, with registration marks."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from notbugs.core import random
from notbugs.core.errors import bad_type, bad_value, check_positive, unknown_name
from notbugs.core.strict_json import to_json
from notbugs.data import ImageData

FORMAT = 1
PAPERS = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}
"""Width and height in mm."""
INCH = 25.4
DPI = 300
"""Every pixel of an image must cover at least one dot of a printer of this resolution."""
MARGIN, MARK, QUIET, GAP = 10.0, 15.0, 4.0, 5.0
"""mm: what printers leave white, the side of a mark, the white around it, and between cells."""
IDS = 1000
"""Marks in the dictionary (OpenCV's DICT_5X5_1000)."""
MARKS = 8
"""Marks of a page: its corners, and the middles of its sides."""


@dataclass(frozen=True)
class Cell:
    """A printed image: its page (from 0), its upper left corner in mm, and what it is of.

    `original` is the index of the clean image; `kind` is "clean" or the name of an attack.
    """

    page: int
    x: float
    y: float
    original: int
    kind: str
    label: int


@dataclass(frozen=True)
class Mark:
    """A registration mark: its page, its upper left corner in mm, and its id (one page's only)."""

    page: int
    x: float
    y: float
    id: int


@dataclass(frozen=True)
class Sheet:
    """Pages of printed images: what `sheet.json` holds. Made by `lay_out`.

    - `paper`, `page_mm`: its name; width and height in mm
    - `cell_mm`: the longer side of a printed image, in mm
    - `shape`: (channels, height, width) of an image
    - `images`: the digest of the set whose row i is printed in cell i
    - `cells`, `marks`: in the order of the pages
    - `digest`: SHA-256 (hex) of all above but the marks, whose ids follow from it

    **Raises** ValueError where the digest does not fit, a cell lies outside its page, or two
    marks have one id.
    """

    format: int
    paper: str
    page_mm: tuple[float, float]
    cell_mm: float
    shape: tuple[int, int, int]
    images: str
    cells: tuple[Cell, ...]
    marks: tuple[Mark, ...]
    digest: str

    def __post_init__(self) -> None:
        wanted = _digest(
            self.paper, self.page_mm, self.cell_mm, self.shape, self.images, self.cells
        )
        if self.digest != wanted:
            raise bad_value("digest", f"be {wanted[:12]}…", self.digest[:12], "Print a new sheet.")
        if not self.cells or min(*self.shape, *self.page_mm, self.cell_mm) <= 0:
            raise bad_value("cells", "be at least one, of a positive size", f"{len(self.cells)}")
        (width, height), (across, down) = self.size_mm, self.page_mm
        for one in self.cells:
            if not (0 <= one.x <= across - width and 0 <= one.y <= down - height and one.page >= 0):
                raise bad_value("cells", "lie on their page", one)
        ids = [mark.id for mark in self.marks]
        if len(set(ids)) < len(ids) or not set(ids) <= set(range(IDS)):
            raise bad_value("marks", f"have different ids below {IDS}", ids)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of a cell in mm."""
        pitch = self.pitch_mm
        return self.shape[2] * pitch, self.shape[1] * pitch

    @property
    def pitch_mm(self) -> float:
        """The side of an image's pixel in mm."""
        return self.cell_mm / max(self.shape[1:])

    @property
    def pages(self) -> int:
        """The number of pages."""
        return 1 + max(cell.page for cell in self.cells)

    def rows_on(self, page: int) -> list[int]:
        """The indices of the cells on a page."""
        return [i for i, cell in enumerate(self.cells) if cell.page == page]


def lay_out(
    data: ImageData,
    kinds: Sequence[str],
    originals: Sequence[int],
    *,
    paper: str = "a4",
    cell_mm: float = 40.0,
) -> Sheet:
    """A sheet with one cell for each image, from left to right, from above to below.

    Marks stand at the corners of each page and in the middle of its sides, at whole mm. Their ids
    are drawn from the digest of the sheet, so that the marks in a photograph say which page of
    which sheet it shows.

    - `data`: uint8 images of 1 or 3 channels, in the order of the cells
    - `kinds` [n]: "clean", or the name of an attack
    - `originals` [n]: the index of the clean image that each one is, or was made from
    - `paper`: "a4" or "letter"
    - `cell_mm`: the longer side of a printed image in mm

    **Raises** TypeError for images of another dtype; ValueError where the images have 2 or 4
    channels, there is not one kind and original for each image, the cell does not fit on the
    paper, a pixel would be smaller than a dot of 300 dpi, or the marks do not suffice.
    """
    _check(data, kinds, originals, paper, cell_mm)
    channels, height, width = data.shape
    pitch = cell_mm / max(height, width)
    across, down = PAPERS[paper]
    edge = MARGIN + MARK + QUIET
    columns = _fitting(across, width * pitch, paper, cell_mm)
    lines = _fitting(down, height * pitch, paper, cell_mm)
    left = float((across - columns * width * pitch - (columns - 1) * GAP) // 2)  # whole mm
    cells: list[Cell] = []
    for i, (kind, original) in enumerate(zip(kinds, originals, strict=True)):
        page, place = divmod(i, columns * lines)
        line, column = divmod(place, columns)
        x, y = left + column * (width * pitch + GAP), edge + line * (height * pitch + GAP)
        label = int(data.labels[i])
        cells.append(Cell(page, round(x, 4), round(y, 4), int(original), kind, label))
    pages = 1 + cells[-1].page
    if pages * MARKS > IDS:
        raise bad_value(
            "data",
            f"fit on {IDS // MARKS} pages",
            f"{pages} pages",
            "Use fewer images or a smaller --cell-mm.",
        )
    shape, printed = (channels, height, width), tuple(cells)
    digest = _digest(paper, (across, down), float(cell_mm), shape, data.digest, printed)
    marks = _marks(digest, pages, across, down)
    return Sheet(
        FORMAT, paper, (across, down), float(cell_mm), shape, data.digest, printed, marks, digest
    )


def _check(
    data: ImageData, kinds: Sequence[str], originals: Sequence[int], paper: str, cell_mm: float
) -> None:
    if paper not in PAPERS:
        raise unknown_name("paper", paper, PAPERS)
    check_positive(cell_mm, "cell_mm")
    if data.images.dtype != torch.uint8:
        raise bad_type("data", "a set of uint8 images", data.images, "Use `pairs` to round them.")
    channels, *sides = data.shape
    if channels not in (1, 3):
        raise bad_value("data", "have 1 or 3 channels to be printed", channels)
    if not len(kinds) == len(originals) == len(data):
        raise bad_value(
            "kinds", f"be one for each of the {len(data)} images, as `originals`", len(kinds)
        )
    least = max(sides) * INCH / DPI
    if cell_mm < least:
        raise bad_value(
            "cell_mm",
            f"be at least {least:.1f} for images of {max(sides)} pixels",
            f"{cell_mm:g}",
            f"A smaller pixel is less than a dot of {DPI} dpi and would not be printed.",
        )


def _fitting(paper_side: float, side: float, paper: str, cell_mm: float) -> int:
    """How many cells fit beside each other between the marks."""
    room = paper_side - 2 * (MARGIN + MARK + QUIET)
    if side > room:
        raise bad_value(
            "cell_mm",
            f"leave room for the marks on {paper} ({room:g} mm between them)",
            f"{cell_mm:g}",
            "Use a smaller cell.",
        )
    return int((room + GAP) // (side + GAP))


def _marks(digest: str, pages: int, across: float, down: float) -> tuple[Mark, ...]:
    ids = torch.randperm(IDS, generator=random.generator("marks", digest)).tolist()
    xs, ys = ((MARGIN, (side - MARK) // 2, (side - MARGIN - MARK) // 1) for side in (across, down))
    places = [(x, y) for y in ys for x in xs if (x, y) != (xs[1], ys[1])]
    return tuple(
        Mark(page, x, y, ids[page * MARKS + i])
        for page in range(pages)
        for i, (x, y) in enumerate(places)
    )


def _digest(
    paper: str,
    page_mm: tuple[float, float],
    cell_mm: float,
    shape: tuple[int, int, int],
    images: str,
    cells: tuple[Cell, ...],
) -> str:
    content = [FORMAT, paper, page_mm, cell_mm, shape, images, [asdict(cell) for cell in cells]]
    return hashlib.sha256(to_json(content).encode()).hexdigest()
