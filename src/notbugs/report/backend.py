"""Imports matplotlib whatever `MPLBACKEND` says: figures are drawn without a backend."""

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    _given = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if _given:  # as matplotlib does; its import fails for an unknown name
        os.environ["MPLBACKEND"] = _given
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = _given
