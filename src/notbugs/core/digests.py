"""Digests by which whoever reads something stored sees that it is what was written."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from notbugs.core.strict_json import finite

DIGEST = "digest"
"""The field of a sealed content that holds the digest of the others."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content`, which JSON must hold, with a digest of it beside."""
    return {**content, DIGEST: _of_json(content)}


def unsealed(content: object) -> dict[str, Any]:
    """What `sealed` was given, as JSON brings it back.

    **Raises** ValueError where it has changed since, or was never sealed.
    """
    if not isinstance(content, dict):
        raise ValueError("It is no JSON object.")
    kept = dict(cast("Mapping[str, Any]", content))
    digest = kept.pop(DIGEST, None)
    if digest is None:
        raise ValueError("It was written without a digest.")
    if digest != _of_json(kept):
        raise ValueError("Its digest says that it was changed after it was written.")
    return kept


def digest_of(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """SHA-256 (hex) of tensors by name, with dtype and shape, and of the texts beside them."""
    digest = hashlib.sha256(_of_json(facts).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The entries of a tensor of any dtype as bytes, row by row."""
    # Flat first: a single number, such as a batch norm's count of batches, cannot be viewed so.
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def _of_json(content: Mapping[str, Any]) -> str:
    # As files hold it, where numbers that are not finite are null.
    text = json.dumps(finite(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
