"""Finds a sheet's marks in a photograph, and cuts out its cells."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core.errors import DataError, bad_type
from notbugs.data.decoding import decoded
from notbugs.photo.layout import MARK, Mark, Sheet
from notbugs.photo.marks import SQUARE, edge_width, found_marks, projected, uncertainty
from notbugs.photo.packages import opencv

NEEDED = 3
"""Marks of one page that must be seen."""
SPREAD = 0.2
"""The least share of the page that lies between them."""
BEND = 0.06
"""How far a corner may lie from where the homography puts it: a share of the mark, or 2 pixels."""
MOST_BLUR = 2.0
"""Pixels of the image: above it, an image of half the size would hold as much."""
BLURRED = 0.003
"""Share of the photograph's longer side: where edges are wider than this, marks are not found."""
MOST_UNCERTAIN = 0.5
"""Pixels of the image: the largest standard deviation of a cell's place."""
MOST_SAMPLES = 16
"""Samples along the side of an image's pixel, at most."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue (ITU-R BT.601), as in Pillow."""

Found = dict[int, tuple[np.ndarray, float]]
"""As `found_marks` returns it."""


@dataclass(frozen=True, eq=False)
class Reading:
    """The cells that a photograph shows.

    - `cells` [n, c, h, w]: float32 in [0, 1], as photographed: colours are not corrected
    - `rows` [n]: their indices in `sheet.cells`, and in the set of its images
    - `page`: from 0
    - `marks`, `hidden`: marks of the page that were used, and that were not found
    - `homography` [3, 3]: from mm on the page to pixels of the photograph, whole at their centres
    - `error`: the root mean square distance of the marks' corners from it, in the photograph's
      pixels
    - `uncertainty`: the standard deviation of a cell's place where it is largest, which follows
      from that error and where the marks lie, in pixels of the images
    - `blur`: the standard deviation of the blur, in pixels of the images
    - `detail`: the photograph's pixels along a pixel of the images, where they are fewest
    """

    cells: Float[Tensor, "n c h w"]
    rows: tuple[int, ...]
    page: int
    marks: int
    hidden: int
    homography: Float[np.ndarray, "3 3"]
    error: float
    uncertainty: float
    blur: float
    detail: float


def read_photo(photo: Path | np.ndarray, sheet: Sheet) -> Reading:
    """The cells of the page that a photograph shows, at the size of the images.

    The page is found by its marks: at any angle, in uneven light, and where some of them are
    hidden. Cells that are not wholly in the photograph are left out. Lenses that bend straight
    lines are not corrected.

    - `photo`: a picture file, or uint8 RGB pixels [h, w, 3]

    **Raises** DataError where the file cannot be read; where no mark is found, or too few, or none
    of this sheet; where the photograph is too blurred or too small; and where no cell is in it.
    TypeError for pixels of another kind; NotbugsError without `opencv-python-headless`.
    """
    cv2, name = opencv(), "The photograph"
    if isinstance(photo, Path):
        name, photo = f"The photograph '{photo}'", _opened(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise bad_type(
            "photo", "uint8 RGB pixels [h, w, 3]", photo, f"It is {photo.dtype} {photo.shape}."
        )
    grey = (photo @ GREY).round().astype(np.uint8)
    found = found_marks(grey)
    if not found:
        raise DataError(f"{name} {_no_marks(grey)}")
    page = _page(name, found, sheet)
    marks = [mark for mark in sheet.marks if mark.page == page and mark.id in found]
    homography, kept, error = _fitted(cv2, name, found, marks, page, sheet)
    size = np.array(grey.shape[::-1])
    places = {i: _corners(sheet, i) for i in sheet.rows_on(page)}
    ends = {i: projected(place, homography) for i, place in places.items()}
    ends = {i: at for i, at in ends.items() if (at >= 0).all() and (at < size).all()}
    if not ends:
        raise DataError(f"{name} shows no whole cell. Photograph the whole page.")
    details = {i: _details(at, sheet) for i, at in ends.items()}
    detail = float(min(sides.min() for sides in details.values()))
    if detail < 1:
        needed = max(sheet.shape[1:])
        raise DataError(
            f"{name} is too small: a cell takes {detail * needed:.0f} of its pixels, and the "
            f"images have {needed}. Go nearer, or use a camera of a higher resolution."
        )
    at, cells_at = (
        np.concatenate(p) for p in ([square(m) for m in kept], [places[i] for i in ends])
    )
    unsure = float(uncertainty(at, homography, error, cells_at).max()) / detail
    if unsure > MOST_UNCERTAIN:
        raise DataError(
            f"{name} shows its {len(kept)} marks too unclearly to find the images to within "
            f"{MOST_UNCERTAIN:g} of their pixels ({unsure:.1f}). Uncover more marks, go nearer, or "
            "light it better."
        )
    blur = float(np.median([found[mark.id][1] for mark in kept])) * MARK / sheet.pitch_mm
    if blur > MOST_BLUR:
        raise DataError(
            f"{name} is blurred beyond reading: by {blur:.1f} pixels of the images, and at most "
            f"{MOST_BLUR:g} can be read. Hold the camera still, focus, or go nearer."
        )
    times = {i: int(np.clip(np.ceil(d.max()), 2, MOST_SAMPLES)) for i, d in details.items()}
    cells = torch.stack([_cut(cv2, photo, sheet, i, homography, n) for i, n in times.items()])
    hidden = sum(mark.page == page for mark in sheet.marks) - len(marks)
    return Reading(
        cells, tuple(ends), page, len(kept), hidden, homography, error, unsure, blur, detail
    )


def _opened(path: Path) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Cannot read '{path}': {error.strerror}. Name the file of a photograph."
        ) from error
    return decoded(path, content, "RGB")[0].permute(1, 2, 0).contiguous().numpy()


def _no_marks(grey: np.ndarray) -> str:
    if edge_width(grey) > BLURRED * max(grey.shape):
        return (
            "is blurred beyond reading, or too small: no mark is found, and no edge is sharp. Hold "
            "the camera still, focus, or go nearer."
        )
    return "shows no marks of a sheet. Photograph the whole page, in even light, and nearer."


def _page(name: str, found: Found, sheet: Sheet) -> int:
    """The page that most of the marks belong to."""
    pages = Counter(mark.page for mark in sheet.marks if mark.id in found)
    if 2 * sum(pages.values()) <= len(found):
        raise DataError(
            f"{name} shows another sheet: {sum(pages.values())} of its {len(found)} marks belong "
            f"to sheet {sheet.digest[:12]}. The digest is printed below each page."
        )
    page, count = pages.most_common(1)[0]
    if 2 * count <= sum(pages.values()):
        raise DataError(f"{name} shows several pages. Photograph one at a time.")
    return page


def _fitted(
    cv2: Any,
    name: str,
    found: Found,
    marks: list[Mark],
    page: int,
    sheet: Sheet,
) -> tuple[np.ndarray, list[Mark], float]:
    """The homography from mm to pixels, the marks that agree with it, and their error."""
    of = f"{sum(mark.page == page for mark in sheet.marks)} marks of page {page + 1}"
    few = "are needed, well apart. Uncover them, or photograph the whole page."
    if len(marks) < NEEDED:
        raise DataError(f"{name} shows {len(marks)} of the {of}; {NEEDED} {few}")
    at = np.concatenate([square(mark) for mark in marks])
    seen = np.concatenate([found[mark.id][0] for mark in marks])
    side = min(np.linalg.norm(np.diff(found[m.id][0], axis=0), axis=1).min() for m in marks)
    homography, _ = cv2.findHomography(at, seen, cv2.RANSAC, max(2.0, BEND * side))
    if homography is None:
        raise DataError(f"{name} shows marks that do not lie on one page. Flatten the paper.")
    off = np.linalg.norm(projected(at, homography) - seen, axis=1).reshape(-1, 4)
    fits = off.max(axis=1) <= max(2.0, BEND * side)
    kept = [mark for mark, fit in zip(marks, fits, strict=True) if fit]
    if len(kept) < NEEDED or 2 * len(kept) <= len(marks):
        raise DataError(
            f"{name} shows {len(marks)} of the {of}, but only {len(kept)} of them lie on a plane. "
            "Flatten the paper, and lay nothing on it."
        )
    hull = cv2.convexHull(np.concatenate([square(mark) for mark in kept]).astype(np.float32))
    if cv2.contourArea(hull) < SPREAD * sheet.page_mm[0] * sheet.page_mm[1]:
        raise DataError(
            f"{name} shows {len(kept)} of the {of}, all in one part of it; {NEEDED} {few}"
        )
    return homography, kept, float(np.sqrt((off[fits] ** 2).mean()))


def square(mark: Mark) -> np.ndarray:
    """The corners of a mark in mm, clockwise from the upper left, [4, 2]."""
    return np.array([mark.x, mark.y]) + MARK * SQUARE


def _corners(sheet: Sheet, row: int) -> np.ndarray:
    cell = sheet.cells[row]
    return np.array([cell.x, cell.y]) + SQUARE * np.array(sheet.size_mm)


def _details(ends: np.ndarray, sheet: Sheet) -> np.ndarray:
    """The photograph's pixels along a pixel of the image, on each side of a cell, [4]."""
    _, height, width = sheet.shape
    return np.linalg.norm(np.roll(ends, -1, axis=0) - ends, axis=1) / ([width, height] * 2)


def _cut(
    cv2: Any, photo: np.ndarray, sheet: Sheet, row: int, homography: np.ndarray, times: int
) -> Tensor:
    """A cell at the size of the images: each pixel the mean of times x times samples, [c, h, w]."""
    channels, height, width = sheet.shape
    cell, step = sheet.cells[row], sheet.pitch_mm / times
    first = (cell.x + step / 2, cell.y + step / 2)
    to_mm = np.array([[step, 0, first[0]], [0, step, first[1]], [0, 0, 1]])
    size, flags = (width * times, height * times), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpPerspective(photo, homography @ to_mm, size, flags=flags)
    mean = fine.reshape(height, times, width, times, 3).astype(np.float32).mean(axis=(1, 3)) / 255
    mean = mean if channels == 3 else (mean @ GREY)[..., None]
    return torch.from_numpy(mean).permute(2, 0, 1).clamp(0, 1)
