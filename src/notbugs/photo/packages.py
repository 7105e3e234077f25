"""The optional packages of printed photographs; the rest of notbugs works without them."""

from functools import partial
from typing import Any

from notbugs.core.packages import optional

_imported = partial(optional, extra="photo", use="Printed photographs")


def opencv() -> Any:
    """The module `cv2`; **raises** NotbugsError where `opencv-python-headless` is missing."""
    return _imported("cv2")


def reportlab(module: str) -> Any:
    """A module of `reportlab`; **raises** NotbugsError where the package is missing."""
    return _imported(f"reportlab.{module}")
