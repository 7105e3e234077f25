"""The 8 by 8 digits that come with scikit-learn."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from notbugs.data.sources.source import Source, published


def load_digits() -> Source:
    """1,797 grey images [1, 8, 8] of ten digits, float32; no official test part.

    Values are the 17 levels 0, 1/16, ..., 1.

    **Source**: E. Alpaydin & C. Kaynak 1998, UCI "Optical Recognition of Handwritten
    Digits", as shipped by scikit-learn.
    """
    pixels, labels = _rows()
    images = torch.as_tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.as_tensor(labels, dtype=torch.int64)
    names = [str(i) for i in range(10)]
    return Source(
        "digits", published(images, labels, names, name="digits", part="all", files={}), None
    )


def _rows() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pixels [n, 64] from 0 to 16, and labels [n].

    From scikit-learn's file, where it lies as it does now: importing the package takes a second,
    in every command and worker.
    """
    spec = find_spec("sklearn")
    path = Path(str(spec and spec.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        table = np.loadtxt(path, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits as embedded

    bunch: Any = embedded()
    return bunch.data, bunch.target
