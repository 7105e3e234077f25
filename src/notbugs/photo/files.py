"""The folder of a sheet: `sheet.pdf` to print, `sheet.json` and the images to read photographs."""

from dataclasses import asdict
from pathlib import Path

from notbugs.core.errors import DataError
from notbugs.core.schema import read_json_file
from notbugs.data import ImageData, load, save
from notbugs.data.files import Versioned
from notbugs.data.writing import new_folder, write_json
from notbugs.photo.layout import FORMAT, Sheet
from notbugs.photo.printing import pdf_of

MANIFEST, IMAGES, PDF = "sheet.json", "images.safetensors", "sheet.pdf"


def save_sheet(sheet: Sheet, data: ImageData, folder: Path) -> None:
    """Writes a sheet and its images into a new folder.

    **Raises** StoreError where `folder` is there and not empty, or cannot be written;
    NotbugsError where a package for printing is not installed.
    """
    content = pdf_of(sheet, data)
    with new_folder(folder) as part:
        (part / PDF).write_bytes(content)
        write_json(part / MANIFEST, asdict(sheet))
        save(data, part / IMAGES)


def open_sheet(folder: Path) -> tuple[Sheet, ImageData]:
    """The sheet that `save_sheet` wrote, and its images: row i is printed in cell i.

    **Raises** DataError where a file is missing or damaged, was changed, or is of another version.
    """
    path, remedy = folder / MANIFEST, "Give the folder that `notbugs photo sheet` wrote."
    version = read_json_file(Versioned, path, remedy=remedy)["format"]
    if version != FORMAT:
        raise DataError(
            f"'{path}' has sheet format {version}; this version reads {FORMAT}. Update notbugs."
        )
    sheet, data = read_json_file(Sheet, path, remedy=remedy), load(folder / IMAGES)
    if data.digest != sheet.images:
        raise DataError(f"'{folder / IMAGES}' does not hold the images of '{path}'. {remedy}")
    return sheet, data
