"""The optional packages of printed photographs; the rest of notbugs works without them."""

from importlib import import_module
from typing import Any

from notbugs.core.errors import NotbugsError


def opencv() -> Any:
    """The module `cv2`; **raises** NotbugsError where `opencv-python-headless` is missing."""
    return _imported("cv2", "opencv-python-headless")


def reportlab(module: str) -> Any:
    """A module of `reportlab`; **raises** NotbugsError where the package is missing."""
    return _imported(f"reportlab.{module}", "reportlab")


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotbugsError(
            f"Printed photographs need the package `{package}` ({error}). Install all that they "
            "need with `pip install opencv-python-headless reportlab`."
        ) from error
