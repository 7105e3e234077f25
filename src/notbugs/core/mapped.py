"""Tensors with a row for each image, which lie in a temporary file where they are large."""

import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from notbugs.core.errors import StoreError, bad_value

IN_MEMORY = 2**28
"""Bytes up to which a tensor is held in memory."""
CHUNK = 2**24
"""Bytes that are copied at a time."""


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU of any content, which lies in a file above `IN_MEMORY` bytes.

    The system moves its pages between memory and disk as it sees fit, so that many images need
    disk, not memory. The file has no name: it goes with the last tensor that uses it, also when
    the process is killed. It lies in the folder TMPDIR, else in /var/tmp, which is a disk where
    /tmp is memory.

    **Raises** StoreError where the disk has no room.
    """
    count = int(np.prod(shape, dtype=np.int64))
    size = count * dtype.itemsize
    if size <= IN_MEMORY:
        return torch.empty(tuple(shape), dtype=dtype)
    folder = _folder()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), size)
            content = np.memmap(file, dtype=np.uint8, mode="r+", shape=(size,))
    except OSError as error:
        raise StoreError(
            f"Cannot keep {size / 1e9:,.3g} GB for images in '{folder}': {error.strerror}. Free "
            "some space, or set TMPDIR to a folder of a larger disk."
        ) from error
    return torch.from_numpy(content).view(dtype).view(tuple(shape))


def take(rows: Tensor, index: Tensor) -> Tensor:
    """The rows `index` (integers or a mask) of a tensor [n, ...], as a tensor of their own."""
    index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    shape = (len(index), *rows.shape[1:])
    at_once = max(1, CHUNK // max(1, rows[:1].nbytes))
    if rows.device.type != "cpu" or len(index) <= at_once:
        return rows[index]
    return filled(shape[0], (rows[part] for part in index.split(at_once)))


def filled(count: int, parts: Iterable[Tensor]) -> Tensor:
    """`count` rows from parts that follow one another, each [m, ...] and of one type.

    **Raises** ValueError for parts of several types or shapes, and another number of rows.
    """
    rows, begin = torch.empty(0), 0
    for part in parts:
        if not begin:
            rows = empty((count, *part.shape[1:]), part.dtype)
        if part.dtype != rows.dtype or part.shape[1:] != rows.shape[1:]:
            kinds = [f"{t.dtype} of {tuple(t.shape[1:])}" for t in (rows, part)]
            raise bad_value("parts", "be of one type and shape", " and ".join(kinds))
        rows[begin : begin + len(part)] = part
        begin += len(part)
    if begin != count:
        raise bad_value("parts", f"hold {count} rows", begin)
    return rows


def _folder() -> str:
    usual = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
    return os.environ.get("TMPDIR") or usual


def _reserve(file: int, size: int) -> None:
    """Reserves the disk's blocks, so that a full disk is an error here and not a crash later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
