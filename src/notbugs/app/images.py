"""Images as text between browser and server: two hex digits a value, and uploaded files."""

import base64
import binascii
import re

import torch
from torch import Tensor

from notbugs.core.errors import DataError, bad_value
from notbugs.core.types import Images
from notbugs.data.pictures import picture_from

UPLOAD = "upload"
UPLOAD_BYTES, UPLOAD_PIXELS = 2**21, 2**24
"""The largest picture file that is read, and the most pixels in it."""
NAME = 60
"""Characters of an uploaded file's name in messages."""
_HEX = re.compile(r"[0-9a-f]*")


def as_text(image: Tensor) -> str:
    """An image [c, h, w] in [0, 1] in 8 bits a value: two hex digits each."""
    return bytes((image.flatten() * 255).round().to(torch.uint8).tolist()).hex()


def from_text(text: object, shape: tuple[int, int, int]) -> Images:
    """The image [1, c, h, w] that `as_text` wrote.

    **Raises** ValueError for anything else.
    """
    digits = 2 * shape[0] * shape[1] * shape[2]
    if not isinstance(text, str) or len(text) != digits or not _HEX.fullmatch(text):
        size = len(text) if isinstance(text, str) else 0
        remedy = "Choose a test image."
        raise bad_value("image", f"be {digits:,} hex digits", f"{size:,} characters", remedy)
    return torch.tensor(list(bytes.fromhex(text))).reshape(1, *shape).float() / 255


def uploaded(text: object, shape: tuple[int, int, int]) -> tuple[Images, list[str]]:
    """The picture file in "upload:NAME:BASE64" as an image [1, c, h, w], and what was converted.

    The last part of the name stands in messages alone; nothing is written.

    **Raises** DataError for a file that is too large or no sound picture of a known format,
    ValueError for another text.
    """
    parts = text.split(":", 2) if isinstance(text, str) else []
    if len(parts) != 3 or parts[0] != UPLOAD:
        raise bad_value("upload", "be written upload:NAME:BASE64", "something else")
    name = re.split(r"[/\\]", parts[1])[-1][-NAME:] or "picture"
    if len(parts[2]) > UPLOAD_BYTES * 4 // 3 + 4:
        raise DataError(
            f"'{name}' is larger than {UPLOAD_BYTES / 2**20:g} MiB. Make the picture smaller."
        )
    try:
        content = base64.b64decode(parts[2], validate=True)
    except binascii.Error as error:
        raise bad_value("upload", "be base64 after its name", f"'{name}': {error}") from error
    return picture_from(name, content, shape, most=UPLOAD_PIXELS)
