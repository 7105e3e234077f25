"""Content addresses: equal configurations always have the same key."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from notbugs.core.errors import bad_type, bad_value


def canonical(value: Any, where: str = "config") -> Any:
    """`value` as plain JSON: tuples become lists, and the whole structure is checked.

    **Raises** TypeError or ValueError naming the field that has no canonical form (a
    path, a tensor, bytes, a number that is not finite, a name that is not a string).
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise bad_value(where, "be finite", value, "NaN and infinity have no fixed key.")
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_name(name, where): canonical(inner, f"{where}.{name}") for name, inner in items}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        entries = cast("Sequence[Any]", value)
        return [canonical(inner, f"{where}[{i}]") for i, inner in enumerate(entries)]
    raise bad_type(where, "made of numbers, strings, lists and mappings", value)


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str):  # 1 and "1" would become one name
        raise bad_type(where, "named by strings throughout", name)
    return name


def key_of(kind: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The key of a result: 32 hex digits of a hash of kind, version, config and input keys."""
    content = {
        "kind": kind,
        "version": version,
        "config": canonical(config),
        "inputs": canonical(inputs, "inputs"),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
