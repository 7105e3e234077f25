"""matplotlib, imported whatever `MPLBACKEND` says: figures here are drawn without a backend."""

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    _given = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if _given:  # as matplotlib does itself; it refuses to be imported where it knows no such name
        os.environ["MPLBACKEND"] = _given
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = _given
