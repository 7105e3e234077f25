"""Overrides any field of a paper's settings, by its dotted name."""

import json
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.schema import fit
from notbugs.core.strict_json import SchemaError
from notbugs.training.written import PARTS

T = TypeVar("T")
FIXED = ("data", "preset", "digest")
"""Fields that others follow from."""


def overridden(config: T, overrides: Sequence[str]) -> T:
    """A frozen dataclass with fields replaced, each given as "a.b=value", the value in JSON.

    Text needs no quotes.

    **Raises** ValueError for an unknown field, or a value that does not fit it.
    """
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise bad_value("--set", "be written name=value", override, "E.g. recipe.epochs=5.")
        if name in FIXED:
            raise bad_value(f"--set {name}", "be left to the command's own flags", text)
        config = _replaced(config, name.split("."), text, name)
    return config


def _replaced(config: Any, path: Sequence[str], text: str, whole: str) -> Any:
    head, *rest = path
    if not is_dataclass(cast("object", config)):
        raise bad_value(f"--set {whole}", "name a setting", text, f"'{head}' is no part of one.")
    names = [f.name for f in fields(config)]
    if head not in names:
        raise unknown_name(f"setting '{whole}'", head, names)
    current = getattr(config, head)
    if rest:
        return replace(config, **{head: _replaced(current, rest, text, whole)})
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if is_dataclass(current) and "part" not in (value if isinstance(value, dict) else ()):
        remedy = f'Use --set {whole}.NAME=..., or name its class as "part".'
        raise bad_value(f"--set {whole}", "be set by its fields", text[:80], remedy)
    kind = typing.get_type_hints(type(config))[head]
    try:
        return replace(config, **{head: fit(kind, value, parts=PARTS)})
    except (SchemaError, ValueError, TypeError) as error:
        raise bad_value(f"--set {whole}", "fit the setting", text[:80], str(error)) from error
