"""The optional package of the explorer; the rest of notbugs works without it."""

import os
from importlib import import_module
from typing import Any

from notbugs.core.errors import NotbugsError

OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""What keeps gradio from calling other hosts."""


def gradio() -> Any:
    """The module `gradio`, told to call nobody.

    **Raises** NotbugsError where it is missing.
    """
    os.environ.update(OFFLINE)
    try:
        return import_module("gradio")
    except ImportError as error:
        raise NotbugsError(
            f"The explorer needs the package `gradio` ({error}). Install it with "
            "`pip install notbugs[explorer]`."
        ) from error
