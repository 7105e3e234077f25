"""The optional package of the explorer; the rest of notbugs works without it."""

import atexit
import os
import shutil
import tempfile
from typing import Any

from notbugs.core.packages import optional

OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""What keeps gradio from calling other hosts."""


FOLDER = "GRADIO_TEMP_DIR"
"""The variable that names gradio's folder for files; the explorer leaves none there."""


def gradio() -> Any:
    """The module `gradio`, told to call nobody.

    **Raises** NotbugsError where it is missing.
    """
    os.environ.update(OFFLINE)
    if FOLDER not in os.environ:  # gradio's own may belong to another user of the machine
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="notbugs-explorer-")
        atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)
    return optional("gradio", extra="explorer", use="The explorer")
