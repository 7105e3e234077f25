"""Freed memory is kept for the next batch, as torch keeps it on a GPU."""

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's malloc.h
_MOST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc, once, to keep what is freed instead of giving it back; True where it does.

    A pass over a batch frees some megabytes of activations that the next pass asks for
    again. By default glibc returns them to the system each time, and every page of them
    is cleared and mapped anew: on a small net that takes up to two thirds of the time of
    a forward pass. The price is that the process stays as large as it once was. So the
    command line does this, and a program that uses the library decides for itself. Blocks
    above 32 MiB, the most that glibc keeps, are returned as ever. Nothing happens without
    glibc, or where the environment says `NOTBUGS_KEEP_MEMORY=0`.
    """
    if not sys.platform.startswith("linux") or os.environ.get("NOTBUGS_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) for name, value in wanted)  # none after a refusal
