"""Decodes picture files into tensors, with an allow-list of formats and modes."""

import io
import os
import warnings
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from notbugs.core.errors import DataError, bad_value, check_count
from notbugs.core.limits import PIXELS

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's decoders that may run, whatever a file claims to be: others (EPS) start programs."""
SUFFIXES = frozenset(
    (
        *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"),
        *(".tif", ".tiff", ".webp"),
    )
)
"""The lower-case file endings that count as images in a folder."""
GREY_MODES = {
    **{"1": "1 bit", "L": "grey", "LA": "grey"},
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I"), "16-bit grey"),
}
READABLE_MODES = {
    **GREY_MODES,
    **{"P": "palette", "PA": "palette", "RGB": "RGB", "RGBA": "RGB", "RGBX": "RGB"},
    **{"CMYK": "CMYK", "YCbCr": "YCbCr", "HSV": "HSV"},
}
"""Pillow's modes that can be read, and their names for messages."""
THREADS = 16
"""The most threads that decode; as many decoded pictures wait."""
MIDDLE = 0.875
"""The share of the shorter side that is kept where pictures are brought to one size."""
LOSSLESS = frozenset(("converted from palette to RGB", "converted from 1 bit to grey"))
"""Conversions that do not change a picture's colours."""


OpenFile: TypeAlias = io.BytesIO | io.BufferedReader
"""A file that is open for reading bytes."""


@dataclass(frozen=True)
class Kind:
    """The colour format in a picture's header: Pillow's mode, and whether it is transparent."""

    mode: str
    alpha: bool

    @property
    def name(self) -> str:
        """The mode's name for messages."""
        return READABLE_MODES[self.mode]


def kind_of(path: Path) -> Kind:
    """The colour format of a picture file; reads only its header.

    **Raises** DataError where it cannot be read, has no known format, or is too large.
    """
    try:
        with path.open("rb") as file:
            return kind_in(path, file)
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}.") from error


def kind_in(path: Path, file: OpenFile) -> Kind:
    """The colour format of the picture in an open file; `path` and errors as in `kind_of`."""
    with _opened(path, file) as picture:
        return _kind(path, picture)


def common_mode(kinds: Collection[Kind]) -> str:
    """The mode all can be read as: L where all are grey, RGBA where all are transparent."""
    if all(kind.mode in GREY_MODES for kind in kinds):
        return "L"
    return "RGBA" if all(kind.alpha for kind in kinds) else "RGB"


def decoded(
    path: Path, content: bytes, mode: str = "", *, side: int | None = None, most: int = PIXELS
) -> tuple[Tensor, list[str]]:
    """Decodes a picture file to an upright image, uint8 [c, h, w], and a list of conversions.

    A conversion completes a sentence with "was": "converted from CMYK to RGB". Of several
    frames the first is used. `path` is for error messages; without a `mode` the image keeps the
    file's mode. `side`: pixels a side to which the middle square of 7/8 of the shorter side is
    resampled (bicubic, antialiased), as nets are evaluated on ImageNet; None leaves the size.
    `most`: pixels (height times width) of the largest picture that is read.

    **Raises** DataError where the file is damaged, has no known format, or is too large.
    """
    with _opened(path, io.BytesIO(content), most) as picture:
        kind = _kind(path, picture)
        mode, done = mode or common_mode([kind]), list[str]()
        if getattr(picture, "is_animated", False):
            done.append("cut to the first frame")
        if picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            done.append("turned upright as EXIF says")
        picture = _eight_bits(ImageOps.exif_transpose(picture))
        if kind.alpha and mode != "RGBA":
            done.append("laid on white")
            picture = _on_white(picture)
        if kind.name != (colours := "grey" if mode == "L" else "RGB"):
            done.append(f"converted from {kind.name} to {colours}")
        picture = picture.convert(mode)
        array = np.array(picture if side is None else _middle(picture, side))
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1), done


def in_order(
    files: Iterable[tuple[Path, bytes]], mode: str, *, side: int | None = None
) -> Iterator[tuple[Path, bytes, Tensor, list[str]]]:
    """Path, content, image and conversions of each picture, decoded by several threads."""
    threads = min(THREADS, os.cpu_count() or 1)
    waiting = deque[tuple[Path, bytes, "Future[tuple[Tensor, list[str]]]"]]()
    # Around all threads: what one of them restores would be another's "ignore".
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(threads) as pool:
        for path, content in files:
            waiting.append((path, content, pool.submit(decoded, path, content, mode, side=side)))
            if len(waiting) > threads:
                path, content, coming = waiting.popleft()
                yield path, content, *coming.result()
        for path, content, coming in waiting:
            yield path, content, *coming.result()


def check_side(side: int | None) -> None:
    """Refuses a size that pictures cannot be brought to."""
    if side is not None:
        check_count(side, "side")
        if side * side > PIXELS:
            raise bad_value("side", f"give at most {PIXELS:,} pixels", side)


def _middle(picture: Image.Image, side: int) -> Image.Image:
    half = min(picture.size) * MIDDLE / 2
    x, y = picture.width / 2, picture.height / 2
    box = (x - half, y - half, x + half, y + half)
    return picture.resize((side, side), Image.Resampling.BICUBIC, box=box)


@contextmanager
def _opened(path: Path, file: OpenFile, most: int = PIXELS) -> Generator[Image.Image, None, None]:
    """Opens the picture in a file; errors in the block become a `DataError` that names `path`."""
    try:
        if not file.read(1):
            raise ValueError("the file is empty")
        file.seek(0)
        # Pillow warns of odd metadata and of large pictures; the limit here is our own.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
            yield picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"'{path}' is too large ({error}): pictures of at most {most:,} pixels are read. "
            "Make it smaller."
        ) from error
    except Exception as error:  # decoders raise nearly anything for a broken file
        why: object = error
        if isinstance(error, UnidentifiedImageError):
            why = f"by its content it is none of {', '.join(FORMATS)}"
        raise DataError(f"'{path}' is not a sound image ({why}). Replace or remove it.") from error


def _kind(path: Path, picture: Image.Image) -> Kind:
    mode = picture.mode
    # Except in PNG, 32-bit modes do not define the value of white.
    if mode not in READABLE_MODES or (mode == "I" and picture.format != "PNG"):
        readable = ", ".join(dict.fromkeys(READABLE_MODES.values()))
        raise DataError(f"'{path}' has the colour mode {mode}; {readable} can be read. Convert it.")
    return Kind(mode, "transparency" in picture.info or mode in ("LA", "PA", "RGBA"))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16-bit grey rounded to 8 bits, with its transparency; others as they are."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.int64)
    grey = (levels * 255 + 32767) // 65535
    shown = levels != picture.info.get("transparency", -1)
    return Image.fromarray(np.stack([grey, 255 * shown], axis=-1).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA"))
