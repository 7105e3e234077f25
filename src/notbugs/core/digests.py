"""Digests stored with content, to detect changes when it is read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from notbugs.core.strict_json import finite

DIGEST = "digest"
"""The field that holds the digest of all other fields."""


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content`, which must be JSON-serialisable, plus a field with its digest."""
    return {**content, DIGEST: _json_digest(content)}


def verify_digest(content: object) -> dict[str, Any]:
    """Content that `with_digest` completed, without the digest, which is checked.

    **Raises** ValueError where the content has changed since, or has no digest.
    """
    if not isinstance(content, dict):
        raise ValueError("It is no JSON object.")
    checked = dict(cast("Mapping[str, Any]", content))
    digest = checked.pop(DIGEST, None)
    if digest is None:
        raise ValueError("It was written without a digest.")
    if digest != _json_digest(checked):
        raise ValueError("Its digest says that it was changed after it was written.")
    return checked


def digest_of(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """SHA-256 (hex) of named tensors, with dtype and shape, and of the texts `facts`."""
    digest = hashlib.sha256(_json_digest(facts).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor of any dtype in row-major order."""
    # Flat first: a scalar, such as a batch norm's count of batches, cannot be viewed as bytes.
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def _json_digest(content: Mapping[str, Any]) -> str:
    # As in files, where non-finite numbers are null.
    text = json.dumps(finite(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
