"""Shape-annotated aliases for the tensors that are passed between packages.

`n` is the number of rows (images); `*chw` is whatever follows it (channels, height,
width for an image); `k` is the number of classes; `d` the width of an embedding.
"""

from collections.abc import Mapping
from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n *chw"]
Rows: TypeAlias = Float[Tensor, " n"]
Mask: TypeAlias = Bool[Tensor, " n"]
Keys: TypeAlias = Int[Tensor, " n"]
Labels: TypeAlias = Int[Tensor, " n"]
Counts: TypeAlias = Int[Tensor, " n"]
Theta: TypeAlias = Float[Tensor, "n *theta"]
"""What a solver moves: the images themselves, or what they are made of."""

Logits: TypeAlias = Float[Tensor, "n k"]
Embeddings: TypeAlias = Float[Tensor, "n d"]

RowTree: TypeAlias = Mapping[str, Tensor]
"""A flat mapping of per-row tensors, which are selected together with the rows."""
