"""Export of datasets as folders of PNG images, and reading of single pictures."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from notbugs.core.errors import DataError, bad_value
from notbugs.core.limits import PIXELS
from notbugs.data.dataset import ImageData
from notbugs.data.decoding import decoded
from notbugs.data.writing import new_folder

PICTURE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for a number of channels."""
SOFTWARE = "notbugs"
"""The `Software` entry in the metadata of figures."""


@dataclass(frozen=True)
class ExportSummary:
    """The effect of rounding to 8 bits: `changed` of `pixels` values, at most by `largest`."""

    images: int
    pixels: int
    changed: int
    largest: float


def export_folder(data: ImageData, folder: Path | str) -> ExportSummary:
    """Writes each image as a PNG into a folder named for its class, and `labels.csv`.

    PNG holds 8 bits: values are rounded (not truncated), which can weaken a small
    perturbation, so the result says how many values changed. Folders have the classes'
    names when these sort in the order of the labels, else the label in front; a class
    without images gets none. `labels.csv` has the columns file, label, class, and those
    of the set that hold one number a row.

    **Raises** ValueError where the images do not have 1, 3 or 4 channels; StoreError where
    `folder` is there and not empty, cannot be written, or the disk is full.
    """
    folder = Path(folder)
    if data.shape[0] not in (1, 3, 4):
        raise bad_value(
            "data", "have 1, 3 or 4 channels", f"{data.shape[0]}", "Use export_npz instead."
        )
    changed, largest = 0, 0.0
    names, digits = _folder_names(data.class_names), len(str(len(data) - 1))
    columns = {name: c.tolist() for name, c in data.columns.items() if c.ndim == 1}
    rows = [("file", "label", "class", *columns)]
    with new_folder(folder) as part:
        for i, label in enumerate(data.labels.tolist()):
            file = f"{names[label]}/{i:0{digits}d}.png"
            (part / names[label]).mkdir(exist_ok=True)
            # To memory first: Pillow tidies up on its own terms when the disk is full.
            pixels = data.pixels(slice(i, i + 1))[0].cpu()
            rounded = (pixels * 255).round().to(torch.uint8)
            moved = (rounded.to(torch.float32).div_(255) - pixels).abs()
            changed, largest = changed + int((moved > 0).sum()), max(largest, float(moved.max()))
            (part / file).write_bytes(_png(rounded))
            values = [_number(column[i]) for column in columns.values()]
            rows.append((file, str(label), data.class_names[label], *values))
        with (part / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return ExportSummary(len(data), data.images.numel(), changed, largest)


def _number(value: float) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(int(value))


def _folder_names(class_names: Sequence[str]) -> list[str]:
    safe = [re.sub(r"[^\w .+-]+", "_", name).strip(" .") or "_" for name in class_names]
    if safe == sorted(set(safe)):
        return safe
    digits = len(str(len(safe) - 1))
    return [f"{i:0{digits}d}-{name}" for i, name in enumerate(safe)]


def picture_png(image: Tensor) -> bytes:
    """An image [c, h, w] in [0, 1] as a PNG file, rounded to 8 bits.

    **Raises** ValueError where it does not have 1, 3 or 4 channels.
    """
    if image.ndim != 3 or len(image) not in PICTURE_MODES:
        raise bad_value("image", "have 1, 3 or 4 channels", f"shape {tuple(image.shape)}")
    return _png((image.cpu() * 255).round().to(torch.uint8))


def _png(image: Tensor) -> bytes:
    png = io.BytesIO()
    _picture(image).save(png, format="PNG")
    return png.getvalue()


def _picture(image: Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def read_picture(path: Path | str, shape: tuple[int, int, int]) -> tuple[Tensor, list[str]]:
    """A picture file as an image [1, c, h, w] in [0, 1], and sentences on its conversions.

    See `picture_from`.

    **Raises** as that, and DataError where the file is missing.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read the picture '{path}': {error.strerror}.") from error
    return picture_from(str(path), content, shape)


def picture_from(
    name: str, content: bytes, shape: tuple[int, int, int], *, most: int = PIXELS
) -> tuple[Tensor, list[str]]:
    """The content of a picture file as an image [1, c, h, w] in [0, 1], and what was converted.

    Grey for one channel, RGB for three, RGBA for four; turned upright as its EXIF orientation says;
    what is transparent is laid on white where the model sees no transparency. A picture of another
    size is resampled (Lanczos, antialiased), its proportions given up. Each change is a sentence.

    - `name`: for messages; `most`: pixels of the largest picture that is read

    **Raises** ValueError where `shape` has another number of channels; DataError where it is too
    large, or no sound picture of a known format.
    """
    channels, height, width = shape
    if channels not in PICTURE_MODES:
        raise bad_value("shape", "have 1, 3 or 4 channels", channels)
    image, changes = decoded(Path(name), content, PICTURE_MODES[channels], most=most)
    picture, done = _picture(image), [f"'{name}' was {change}." for change in changes]
    if picture.size != (width, height):
        before = f"{picture.height} x {picture.width}"
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        done.append(f"'{name}' was resampled from {before} to {height} x {width} pixels.")
    array = np.array(picture).reshape(height, width, channels)
    return torch.from_numpy(array).permute(2, 0, 1)[None].float().div(255), done
