"""How large an input may be, so that a small file cannot ask for work without end.

A file's header, a label or an option may claim any size. It is compared with these limits
before anything of that size is made; the message names the limit.
"""

import os

CLASSES = 100_000
"""Classes of a set or a model (ImageNet-21k has 21,841)."""
NAME = 1_000
"""Characters of a class's name."""
PIXELS = 100_000_000
"""Pixels of a picture file (height times width), and values of an image that a model takes."""
DEPTH, WIDTH = 1_000, 65_536
"""Layers of a built-in network, and any other whole number among its options."""


def beyond_memory(size: int) -> str:
    """What is wrong with so many bytes, in words; empty where they fit into this machine."""
    room = _memory()
    if size <= room:
        return ""
    return f"{size / 1e9:,.3g} GB are needed, this machine has {room / 1e9:,.3g} GB of memory"


def _memory() -> int:
    """Bytes of memory; where the system does not say, what it could address at most."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**47
