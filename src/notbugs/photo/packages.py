"""The optional packages of printed photographs; the rest of notbugs works without them."""

from importlib import import_module
from typing import Any

from notbugs.core.errors import NotbugsError


def opencv() -> Any:
    """The module `cv2`, with its ArUco marks.

    **Raises** NotbugsError where the package is not installed.
    """
    return _imported("cv2", "opencv-python-headless")


def reportlab() -> Any:
    """The module `reportlab`, with its submodules `lib.utils` and `pdfgen.canvas`.

    **Raises** NotbugsError where the package is not installed.
    """
    for part in ("reportlab.lib.utils", "reportlab.pdfgen.canvas"):
        _imported(part, "reportlab")
    return _imported("reportlab", "reportlab")


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotbugsError(
            f"Printed photographs need the package `{package}` ({error}). Install all that they "
            "need with `pip install opencv-python-headless reportlab`."
        ) from error
