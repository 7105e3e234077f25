"""JSON read against a schema.

A schema is a type. A frozen dataclass names every key of its object: any other is refused. A
`TypedDict` names those that must be right, and keeps what else is there.
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
"""The key under which an object says which class it is one of."""
WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "text",
    types.NoneType: "null",
}
REST: Mapping[str, bool] = {"rest": True}
"""The metadata of a dataclass's field that takes all keys that no other field names, as a dict."""


def fit(kind: type[T] | types.GenericAlias, value: Any, *, parts: Mapping[str, type] = {}) -> T:
    """The value that JSON gave, as a `kind`.

    - `kind`: a dataclass, a `TypedDict`, or a type made of bool, int, float (integers are numbers
      too), str, None, `list`, `tuple`, `dict[str, ...]`, `Literal`, unions and `Any`
    - `parts`: classes by name; an object where one of them belongs names it under `part`

    **Raises** SchemaError: the place as a path, what was expected there, what was received.
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
    """What a JSON text holds, as a `kind` (see `fit`).

    - `of`: whose text it is, for the message: "the description in 'model.safetensors'"
    - `remedy`, `error`: how the message ends, and its class

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
    """What a JSON file holds, as a `kind` (see `fit`).

    **Raises** `error` where it is missing, cannot be read or does not fit.
    """
    try:
        content = path.read_bytes()
    except OSError as wrong:
        raise error(f"Cannot read '{path}': {wrong.strerror}. {remedy}") from wrong
    return read_json(kind, content, of=f"'{path}'", remedy=remedy, error=error)


@dataclasses.dataclass(frozen=True)
class _Fitting:
    """Values brought to their types, place by place."""

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
        if kind in WORDS:
            return _plain(kind, value, place)
        return self._made(kind, _object(kind, value, place), place)

    def _one_of(self, kinds: Sequence[Any], value: Any, place: str) -> Any:
        wrong: SchemaError | None = None
        for kind in kinds:
            try:
                return self.fit(kind, value, place)
            except SchemaError as error:
                # What is wrong inside says more than that none of them fits.
                if wrong is None and error.place != place:
                    wrong = error
        raise wrong or _mismatch(place, " or ".join(_words(k) for k in kinds), value)

    def _list(self, kind: Any, value: Any, place: str) -> Any:
        made, inner = typing.get_origin(kind), typing.get_args(kind)
        if not isinstance(value, list):
            _refuse(place, kind, value)
        values = cast("list[Any]", value)
        fixed = made is tuple and inner[-1] is not Ellipsis
        if fixed and len(values) != len(inner):
            raise _mismatch(place, f"{len(inner)} entries", values)
        kinds = inner if fixed else [inner[0]] * len(values)
        pairs = enumerate(zip(kinds, values, strict=True))
        found = [self.fit(k, v, f"{place}/{i}") for i, (k, v) in pairs]
        return tuple(found) if made is tuple else found

    def _made(self, kind: Any, values: Mapping[str, Any], place: str) -> Any:
        """An object as a class of ours, or as a `TypedDict`."""
        if any(issubclass(part, kind) for part in self.parts.values()):
            kind, values = self._part(kind, values, place)
        keys = _keys(kind)
        for name in keys.required:
            if name not in values:
                raise _mismatch(f"{place}/{name}", _words(keys.hints[name]))
        known = {k: v for k, v in values.items() if k in keys.hints}
        others = {k: v for k, v in values.items() if k not in keys.hints}
        found = {k: self.fit(keys.hints[k], v, f"{place}/{k}") for k, v in known.items()}
        if typing.is_typeddict(kind):
            return found | others
        if keys.rest is not None:
            found[keys.rest[0]] = self.fit(keys.rest[1], others, place)
        elif others:
            name = next(iter(others))
            raise SchemaError(f"expected no such key{_near(name, keys.hints)}", f"{place}/{name}")
        try:
            return kind(**found)
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
    """The keys of a class with their types, and those that must be there.

    `rest` is the field that takes all others, with its type, where there is one.
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
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and whole:
        return float(value)
    fits = whole if kind is int else isinstance(value, kind)
    return value if fits else _refuse(place, kind, value)


def _object(kind: Any, value: Any, place: str) -> Mapping[str, Any]:
    return (
        cast("Mapping[str, Any]", value) if isinstance(value, dict) else _refuse(place, kind, value)
    )


def _refuse(place: str, kind: Any, value: Any) -> NoReturn:
    raise _mismatch(place, _words(kind), value)


def _mismatch(place: str, expected: str, *given: Any) -> SchemaError:
    got = received(given[0]) if given else "nothing"
    return SchemaError(f"expected {expected}, got {got}", place)


def _words(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in WORDS:
        return WORDS[kind]
    if origin in (Union, types.UnionType):
        return " or ".join(_words(k) for k in inner)
    if origin is Literal:
        return " or ".join(received(k) for k in inner)
    if origin in (list, tuple, Sequence):
        return "a list"
    return "a value" if kind is Any else "an object"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
