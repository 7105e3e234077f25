"""The 8 by 8 digits that come with scikit-learn."""

import torch

from notbugs.data.sources.source import Source, published


def load_digits() -> Source:
    """1,797 grey images [1, 8, 8] of ten digits, float32; no official test part.

    Values are the 17 levels 0, 1/16, ..., 1.

    **Source**: E. Alpaydin & C. Kaynak 1998, UCI "Optical Recognition of Handwritten
    Digits", as shipped by scikit-learn.
    """
    from sklearn.datasets import load_digits as embedded

    bunch = embedded()
    images = torch.as_tensor(bunch.images / 16, dtype=torch.float32)[:, None]  # pyright: ignore[reportAttributeAccessIssue]
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)  # pyright: ignore[reportAttributeAccessIssue]
    names = [str(i) for i in range(10)]
    return Source(
        "digits", published(images, labels, names, name="digits", part="all", files={}), None
    )
