"""Validation of JSON against a schema.

A schema is a type. A frozen dataclass lists every key of its object: unknown keys are refused.
A `TypedDict` lists the keys that are checked, and keeps all others.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, cast

from notbugs.core.errors import DataError, NotbugsError
from notbugs.core.strict_json import SchemaError, parse_json, received

T = TypeVar("T")
PART = "part"
"""The key that names the class of an object."""
TYPE_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "text",
    types.NoneType: "null",
}
REST: Mapping[str, bool] = {"rest": True}
"""The metadata of the dataclass field that collects all unknown keys, as a dict."""


def fit(
    kind: type[T] | types.GenericAlias | types.UnionType,
    value: Any,
    *,
    parts: Mapping[str, type] = {},
) -> T:
    """A value parsed from JSON, validated and converted to `kind`.

    - `kind`: a dataclass, a `TypedDict`, or a type made of bool, int, float (integers are numbers
      too), str, None, `list`, `tuple`, `dict[str, ...]`, `Literal`, unions and `Any`
    - `parts`: classes by name; an object where one of them belongs names it under `part`

    **Raises** SchemaError with the path of the value, what was expected and what was received.
    """
    return _Fitting(parts).fit(kind, value, "")


def read_json(
    kind: type[T] | types.GenericAlias,
    text: str | bytes,
    *,
    of: str,
    remedy: str,
    error: type[NotbugsError] = DataError,
) -> T:
    """Parses a JSON text and converts it to `kind` (see `fit`).

    - `of`: what the text is, for the message: "the description in 'model.safetensors'"
    - `remedy`, `error`: the end of the error message, and its class

    **Raises** `error` where it cannot be read or does not fit.
    """
    try:
        return fit(kind, parse_json(text))
    except SchemaError as wrong:
        raise error(f"{of[:1].upper()}{of[1:]} is damaged: {wrong}. {remedy}") from wrong


def read_json_file(
    kind: type[T] | types.GenericAlias,
    path: Path,
    *,
    remedy: str,
    error: type[NotbugsError] = DataError,
) -> T:
    """Reads a JSON file and converts it to `kind` (see `fit`).

    **Raises** `error` where it is missing, cannot be read or does not fit.
    """
    try:
        content = path.read_bytes()
    except OSError as wrong:
        raise error(f"Cannot read '{path}': {wrong.strerror}. {remedy}") from wrong
    return read_json(kind, content, of=f"'{path}'", remedy=remedy, error=error)


@dataclasses.dataclass(frozen=True)
class _Fitting:
    """Validates values recursively; `place` is the path of a value."""

    parts: Mapping[str, type]

    def fit(self, kind: Any, value: Any, place: str) -> Any:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (Union, types.UnionType):
            return self._one_of(inner, value, place)
        if origin is Literal:
            same = any(value == one and type(value) is type(one) for one in inner)
            return value if same else _refuse(place, kind, value)
        if origin in (list, tuple, Sequence):
            return self._list(kind, value, place)
        if origin in (dict, Mapping):
            pairs = _object(kind, value, place).items()
            return {k: self.fit(inner[1], v, f"{place}/{k}") for k, v in pairs}
        if kind in TYPE_NAMES:
            return _plain(kind, value, place)
        return self._instance(kind, _object(kind, value, place), place)

    def _one_of(self, kinds: Sequence[Any], value: Any, place: str) -> Any:
        wrong: SchemaError | None = None
        for kind in kinds:
            try:
                return self.fit(kind, value, place)
            except SchemaError as error:
                # An error inside a value says more than that no type fits.
                if wrong is None and error.place != place:
                    wrong = error
        raise wrong or _mismatch(place, " or ".join(_type_name(k) for k in kinds), value)

    def _list(self, kind: Any, value: Any, place: str) -> Any:
        container, inner = typing.get_origin(kind), typing.get_args(kind)
        if not isinstance(value, list):
            _refuse(place, kind, value)
        values = cast("list[Any]", value)
        fixed = container is tuple and inner[-1] is not Ellipsis
        if fixed and len(values) != len(inner):
            raise _mismatch(place, f"{len(inner)} entries", values)
        kinds = inner if fixed else [inner[0]] * len(values)
        pairs = enumerate(zip(kinds, values, strict=True))
        items = [self.fit(k, v, f"{place}/{i}") for i, (k, v) in pairs]
        return tuple(items) if container is tuple else items

    def _instance(self, kind: Any, values: Mapping[str, Any], place: str) -> Any:
        """An object as a dataclass or as a `TypedDict`."""
        if any(issubclass(part, kind) for part in self.parts.values()):
            kind, values = self._part(kind, values, place)
        keys = _keys(kind)
        for name in keys.required:
            if name not in values:
                raise _mismatch(f"{place}/{name}", _type_name(keys.hints[name]))
        known = {k: v for k, v in values.items() if k in keys.hints}
        others = {k: v for k, v in values.items() if k not in keys.hints}
        fields = {k: self.fit(keys.hints[k], v, f"{place}/{k}") for k, v in known.items()}
        if typing.is_typeddict(kind):
            return fields | others
        if keys.rest is not None:
            fields[keys.rest[0]] = self.fit(keys.rest[1], others, place)
        elif others:
            name = next(iter(others))
            raise SchemaError(f"expected no such key{_near(name, keys.hints)}", f"{place}/{name}")
        try:
            return kind(**fields)
        except (ValueError, TypeError) as error:
            raise SchemaError(str(error).rstrip("."), place) from error

    def _part(
        self, kind: Any, values: Mapping[str, Any], place: str
    ) -> tuple[Any, Mapping[str, Any]]:
        fitting = {name: part for name, part in self.parts.items() if issubclass(part, kind)}
        name = values.get(PART)
        if not isinstance(name, str) or name not in fitting:
            expected = f"one of {', '.join(sorted(fitting))}"
            raise _mismatch(f"{place}/{PART}", expected, *([name] if PART in values else []))
        return fitting[name], {k: v for k, v in values.items() if k != PART}


@dataclasses.dataclass(frozen=True)
class _Keys:
    """The keys of a class with their types, and the required ones.

    `rest` is the field that collects unknown keys, with its type, if there is one.
    """

    hints: Mapping[str, Any]
    required: Sequence[str]
    rest: tuple[str, Any] | None = None


@cache
def _keys(kind: Any) -> _Keys:
    hints = typing.get_type_hints(kind)
    if typing.is_typeddict(kind):
        return _Keys(hints, sorted(kind.__required_keys__))
    fields = [f for f in dataclasses.fields(kind) if f.init]
    others = [(f.name, hints[f.name]) for f in fields if f.metadata == REST]
    missing = dataclasses.MISSING
    needed = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    known = {f.name: hints[f.name] for f in fields if f.metadata != REST}
    return _Keys(known, needed, others[0] if others else None)


def _plain(kind: Any, value: Any, place: str) -> Any:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and is_integer:
        return float(value)
    fits = is_integer if kind is int else isinstance(value, kind)
    return value if fits else _refuse(place, kind, value)


def _object(kind: Any, value: Any, place: str) -> Mapping[str, Any]:
    return (
        cast("Mapping[str, Any]", value) if isinstance(value, dict) else _refuse(place, kind, value)
    )


def _refuse(place: str, kind: Any, value: Any) -> NoReturn:
    raise _mismatch(place, _type_name(kind), value)


def _mismatch(place: str, expected: str, *given: Any) -> SchemaError:
    got = received(given[0]) if given else "nothing"
    return SchemaError(f"expected {expected}, got {got}", place)


def _type_name(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in TYPE_NAMES:
        return TYPE_NAMES[kind]
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(k) for k in inner)
    if origin is Literal:
        return " or ".join(received(k) for k in inner)
    if origin in (list, tuple, Sequence):
        return "a list"
    return "a value" if kind is Any else "an object"


def _near(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
