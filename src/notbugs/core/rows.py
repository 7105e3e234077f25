"""Helpers for per-row tensors: the first dimension counts images."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from notbugs.core.types import Mask, Rows

T = TypeVar("T")


def expand(rows: Tensor, like: Tensor) -> Tensor:
    """`rows` of shape [n] viewed as [n, 1, ..., 1], to broadcast against `like` [n, ...]."""
    return rows.reshape(rows.shape[0], *([1] * (like.ndim - 1)))


def where(mask: Mask, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row, the row of `yes` where `mask` holds and the row of `no` elsewhere."""
    return torch.where(expand(mask, yes), yes, no)


def flatten(x: Tensor) -> Tensor:
    """`x` of shape [n, ...] as [n, d]; also when [n] (then d = 1)."""
    return x.reshape(x.shape[0], -1)


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 where its numbers are coarser."""
    return x.float() if x.itemsize < 4 else x


def total(x: Tensor) -> Rows:
    """The sum of each row's entries, [n]."""
    return flatten(x).sum(dim=1)


def select(tree: T, index: Tensor) -> T:
    """Selects the rows `index` (a mask or integer indices) of every tensor in a tree.

    A tree is a tensor, None, a (named) tuple or a mapping of trees.
    """

    def cut(leaf: Tensor) -> Tensor:
        return leaf[index]

    return _map(tree, cut)


def scatter(tree: T, index: Tensor, rows: T) -> T:
    """A copy of `tree` whose rows `index` are those of the tree `rows`."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, index, new.to(old.dtype))

    return _map2(tree, rows, put)


def merge(mask: Mask, yes: T, no: T) -> T:
    """Row by row over a whole tree: `yes` where `mask` holds, else `no`."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return where(mask, a, b)

    return _map2(yes, no, choose)


def _map(tree: Any, f: Any) -> Any:
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, Mapping):
        items = cast("Mapping[str, Any]", tree).items()
        return {name: _map(leaf, f) for name, leaf in items}
    if isinstance(tree, tuple):
        leaves = [_map(leaf, f) for leaf in cast("tuple[Any, ...]", tree)]
        return type(tree)(*leaves) if hasattr(tree, "_fields") else tuple(leaves)  # pyright: ignore
    raise TypeError(f"A row tree holds tensors, tuples and mappings; got {type(tree).__name__}.")


def _map2(a: Any, b: Any, f: Any) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, Tensor):
        return f(a, b)
    if isinstance(a, Mapping):
        first = cast("Mapping[str, Any]", a)
        return {name: _map2(leaf, b[name], f) for name, leaf in first.items()}
    leaves = [_map2(x, y, f) for x, y in zip(a, b, strict=True)]
    return type(a)(*leaves) if hasattr(a, "_fields") else tuple(leaves)
