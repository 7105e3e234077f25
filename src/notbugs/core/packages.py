"""Optional packages: each is imported where it is used, and named with its extra where it lacks."""

from importlib import import_module
from typing import Any

from notbugs.core.errors import NotbugsError


def optional(module: str, *, extra: str, use: str, remedy: str = "") -> Any:
    """A module of a package that need not be installed.

    - `extra`: what installs it with notbugs; `use`: what needs it, as the message begins
    - `remedy`: what else would help

    **Raises** NotbugsError where it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise NotbugsError(
            f"{use}: a package is missing ({error}). Install it with "
            f"`pip install 'notbugs[{extra}]'`{remedy and f', {remedy}'}."
        ) from error
