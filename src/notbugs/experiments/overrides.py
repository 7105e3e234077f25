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
Override = tuple[Sequence[str], str, str]
"""(path to a field, its value in JSON or text, the whole name)."""
FIXED = ("data", "preset", "digest", "source_digest")
"""Fields that others follow from."""


def overridden(config: T, overrides: Sequence[str]) -> T:
    """A frozen dataclass with fields replaced, each given as "a.b=value", the value in JSON.

    Text needs no quotes.

    **Raises** ValueError for an unknown field, or a value that does not fit it.
    """
    given: list[Override] = []
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise bad_value("--set", "be written name=value", override, "E.g. recipe.epochs=5.")
        if name in FIXED:
            raise bad_value(f"--set {name}", "be left to the command's own flags", text)
        given.append((name.split("."), text, name))
    return _replaced(config, given)


def _replaced(config: Any, overrides: Sequence[Override]) -> Any:
    """With all of them at once: settings that depend on each other are checked together."""
    values: dict[str, Any] = {}
    parts: dict[str, list[Override]] = {}
    for (head, *rest), text, whole in overrides:
        if not is_dataclass(cast("object", config)):
            raise bad_value(
                f"--set {whole}", "name a setting", text, f"'{head}' is no part of one."
            )
        names = [f.name for f in fields(config)]
        if head not in names:
            raise unknown_name("setting", whole, names)
        if rest:
            parts.setdefault(head, []).append((rest, text, whole))
        else:
            values[head] = _fitting(config, head, text, whole)
    for head, of_part in parts.items():
        values[head] = _replaced(values.get(head, getattr(config, head)), of_part)
    try:
        return replace(config, **values)
    except (ValueError, TypeError) as error:
        flags = ", ".join(f"--set {whole}" for _, _, whole in overrides)
        given = ", ".join(text[:80] for _, text, _ in overrides)
        raise bad_value(flags, "fit the settings", given, str(error)) from error


def _fitting(config: Any, head: str, text: str, whole: str) -> Any:
    """The value of a field, of its type."""
    current = getattr(config, head)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text[:1] in ("[", "{"):
            raise bad_value(f"--set {whole}", "be JSON", text[:80], f"{error}") from error
        value = text
    if is_dataclass(current) and "part" not in (value if isinstance(value, dict) else ()):
        remedy = f'Use --set {whole}.NAME=..., or name its class as "part".'
        raise bad_value(f"--set {whole}", "be set by its fields", text[:80], remedy)
    kind = typing.get_type_hints(type(config))[head]
    try:
        return fit(kind, value, parts=PARTS)
    except (SchemaError, ValueError, TypeError) as error:
        raise bad_value(f"--set {whole}", "fit the setting", text[:80], str(error)) from error
