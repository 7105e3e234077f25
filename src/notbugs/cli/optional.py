"""How options that may be left out are read and shown: `--epochs INT`, not `{None}|INT`."""

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

NAMES: dict[Any, tuple[str, str]] = {
    int: ("INT", "a whole number"),
    float: ("FLOAT", "a number"),
    str: ("STR", "a text"),
    Path: ("PATH", "a path"),
}
"""What stands for a value of a type, and what it is."""
NONE = "none"

OPTIONS = ConstructorRegistry()
"""In its block, tyro reads options with these rules."""


@OPTIONS.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """That of `int | None` and the like; "none" is None."""
    kinds = get_args(info.type)
    if len(kinds) != 2 or kinds[1] is not NoneType or kinds[0] not in NAMES:
        return None
    kind = kinds[0]
    shown, meaning = NAMES[kind]

    def read(words: Sequence[str]) -> Any:
        if words[0] == NONE:
            return None
        try:
            return kind(words[0])
        except ValueError as error:
            raise ValueError(f"must be {meaning}; got '{words[0]}'") from error

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=shown,
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [NONE if value is None else str(value)],
    )
