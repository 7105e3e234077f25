"""Limits on the size of inputs, so that a small file cannot cause unbounded work.

A file's header, a label or an option may claim any size. It is compared with these limits
before anything of that size is allocated; the message names the limit.
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


def memory_shortage(size: int) -> str:
    """Text that says by how much `size` bytes exceed this machine's memory; empty if they fit."""
    available = _memory()
    if size <= available:
        return ""
    return f"{size / 1e9:,.3g} GB are needed, this machine has {available / 1e9:,.3g} GB of memory"


def _memory() -> int:
    """Bytes of memory; where the system does not say, the largest address space."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**47
