"""How options are read and shown: `--epochs INT`, not `{None}|INT`, and texts as paragraphs."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

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


def join_docstrings(command: type) -> None:
    """Gives every option of a command the text below its field, without the source's line breaks.

    Left to itself, tyro keeps a break before each line that does not begin with a letter, and takes
    an indented line for one of those.
    """
    texts = {
        name: text
        for kind in reversed(command.__mro__)
        if is_dataclass(kind)
        for name, text in _field_docstrings(kind)
    }
    for option in fields(command):
        if option.name in texts:
            option.metadata = MappingProxyType({**option.metadata, "help": texts[option.name]})
    for hint in get_type_hints(command).values():
        for kind in (hint, *get_args(hint)):  # a group of options, or the actions of a command
            if isinstance(kind, type) and is_dataclass(kind):
                join_docstrings(kind)


def _field_docstrings(kind: type) -> Iterator[tuple[str, str]]:
    """The names of the fields that a class itself has, with the texts below them."""
    try:
        source = dedent(inspect.getsource(kind))
    except OSError:  # there are no source files: help has fewer words
        return
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())
            case _:
                pass
