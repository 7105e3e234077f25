"""Files in the form in which datasets are published."""

import struct

import numpy as np


def encoded(array):
    """Unsigned bytes as an IDX file, the form of MNIST."""
    head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return head + array.tobytes()


def write_mnist(folder, train, test, seed=0) -> None:
    """The four files of MNIST with that many images of noise, 28 x 28."""
    draw = np.random.default_rng(seed)
    for part, n in (("train", train), ("t10k", test)):
        images = draw.integers(0, 256, (n, 28, 28), np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(encoded(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(encoded(labels))
