"""Prints a sheet: as a PDF at true size, and as pixels for previews and simulated photographs."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from notbugs.core.errors import bad_value, check_positive
from notbugs.data import ImageData
from notbugs.photo.layout import DPI, INCH, MARK, Sheet
from notbugs.photo.packages import opencv, reportlab

POINTS = 72 / INCH
"""Points of a PDF in a millimetre."""
Box = tuple[float, float, float, float]
"""Left, top, width and height in mm."""


def dictionary() -> Any:
    """OpenCV's dictionary of the marks: 1,000 patterns of 5x5 squares."""
    aruco = opencv().aruco
    return aruco.getPredefinedDictionary(aruco.DICT_5X5_1000)


def pdf_of(sheet: Sheet, data: ImageData) -> bytes:
    """A PDF with one page for each of the sheet's, to be printed at 100 %.

    Every pixel of an image is a square of as many equal pixels as 300 dpi need, stored without
    loss: neither printer nor viewer has to enlarge anything. Below each image is the index of its
    original and its kind; below each page the sheet's digest.

    **Raises** ValueError where `data` is not the sheet's; NotbugsError without `reportlab`.
    """
    utils, content = reportlab("lib.utils"), io.BytesIO()
    width, height = (side * POINTS for side in sheet.page_mm)
    canvas = reportlab("pdfgen.canvas").Canvas(content, pagesize=(width, height), invariant=1)
    canvas.setTitle(f"notbugs sheet {sheet.digest[:12]}")
    for page in range(sheet.pages):
        for pixels, (x, y, w, h) in _placed(sheet, data, page):
            times = -(-round(w / INCH * DPI) // pixels.shape[1])
            large = Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1))
            picture = utils.ImageReader(large)
            canvas.drawImage(picture, x * POINTS, height - (y + h) * POINTS, w * POINTS, h * POINTS)
        canvas.setFont("Helvetica", 6)
        for cell in (sheet.cells[i] for i in sheet.rows_on(page)):
            text = ascii(f"{cell.original} {cell.kind}")[1:-1]
            below = height - (cell.y + sheet.size_mm[1] + 3) * POINTS
            canvas.drawString(cell.x * POINTS, below, text[:60])
        about = f"notbugs sheet {sheet.digest[:12]}, page {page + 1} of {sheet.pages}"
        canvas.drawCentredString(width / 2, 4 * POINTS, f"{about}. Print at 100 %, not scaled.")
        canvas.showPage()
    canvas.save()
    return content.getvalue()


def page_pixels(
    sheet: Sheet, data: ImageData, page: int, dpi: float = DPI
) -> UInt8[np.ndarray, "h w 3"]:
    """A page without its text as RGB pixels: each takes the colour at its centre.

    - `page`: from 0

    **Raises** ValueError for a page that is not there, or where `data` is not the sheet's.
    """
    check_positive(dpi, "dpi")
    if not 0 <= page < sheet.pages:
        raise bad_value("page", f"lie in 0..{sheet.pages - 1}", page)
    width, height = (round(side / INCH * dpi) for side in sheet.page_mm)
    canvas = np.full((height, width, 3), 255, np.uint8)
    for pixels, (x, y, w, h) in _placed(sheet, data, page):
        (top, rows), (left, columns) = (
            _sampled(start * dpi / INCH, side * dpi / INCH, count)
            for start, side, count in ((y, h, pixels.shape[0]), (x, w, pixels.shape[1]))
        )
        part = pixels[np.ix_(rows, columns)].reshape(len(rows), len(columns), -1)
        canvas[top : top + len(rows), left : left + len(columns)] = part
    return canvas


def _sampled(start: float, side: float, count: int) -> tuple[int, np.ndarray]:
    """The first pixel whose centre lies in [start, start + side); what each of them shows."""
    first, end = (int(np.ceil(edge - 0.5)) for edge in (start, start + side))
    centres = np.arange(first, end) + 0.5
    return first, ((centres - start) / side * count).astype(int).clip(0, count - 1)


def _placed(sheet: Sheet, data: ImageData, page: int) -> Iterator[tuple[np.ndarray, Box]]:
    """The images and marks of a page, uint8 [h, w] or [h, w, 3], and their places."""
    if data.digest != sheet.images:
        raise bad_value("data", "be the images of the sheet", data, "Lay them out again.")
    for i in sheet.rows_on(page):
        cell, pixels = sheet.cells[i], data.images[i].permute(1, 2, 0).cpu().numpy()
        yield (pixels[..., 0] if pixels.shape[2] == 1 else pixels), (cell.x, cell.y, *sheet.size_mm)
    marks, aruco = dictionary(), opencv().aruco
    for mark in sheet.marks:
        if mark.page == page:
            yield aruco.generateImageMarker(marks, mark.id, 7), (mark.x, mark.y, MARK, MARK)
