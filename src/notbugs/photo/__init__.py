"""Printed and photographed images: sheets, their print, their reading, and a simulated camera.

**Source**: Kurakin, Goodfellow & Bengio 2016 (arXiv 1607.02533), section 3.
"""

from notbugs.photo.camera import Camera, photograph
from notbugs.photo.files import open_sheet, save_sheet
from notbugs.photo.layout import Cell, Mark, Sheet, lay_out
from notbugs.photo.marks import projected
from notbugs.photo.pairs import CLEAN, pairs
from notbugs.photo.printing import page_pixels, pdf_of
from notbugs.photo.rates import destruction_rate, photo_rates
from notbugs.photo.reading import Reading, read_photo

__all__ = [
    "CLEAN",
    "Camera",
    "Cell",
    "Mark",
    "Reading",
    "Sheet",
    "destruction_rate",
    "lay_out",
    "open_sheet",
    "page_pixels",
    "pairs",
    "pdf_of",
    "photo_rates",
    "photograph",
    "projected",
    "read_photo",
    "save_sheet",
]
