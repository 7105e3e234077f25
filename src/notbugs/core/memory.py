"""Makes malloc keep freed memory for the next batch, as torch does on a GPU."""

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's malloc.h
_MOST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc, once, to keep freed memory; returns whether it does.

    A forward pass frees some megabytes of activations that the next one allocates again. By
    default glibc returns them to the system each time, and every page is cleared and mapped
    again: on a small net that takes up to two thirds of the time of a forward pass. The
    price is that the process never shrinks, so the command line does this, and a program that
    uses the library decides for itself. Blocks above 32 MiB, the most that glibc keeps,
    are still returned. Nothing happens without glibc, or with `NOTBUGS_KEEP_MEMORY=0` in the
    environment.
    """
    if not sys.platform.startswith("linux") or os.environ.get("NOTBUGS_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) for name, value in options)  # stops at the first failure
