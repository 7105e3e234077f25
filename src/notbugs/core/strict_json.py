"""JSON as text: written so that every reader can read it, and read without surprises."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

DEPTH = 64
"""Levels of lists and objects inside each other that are read."""
LARGEST = 2**63
"""Integers are read below this, as every other reader of JSON and every tensor holds them."""


class SchemaError(ValueError):
    """JSON that cannot be read, or does not fit its schema.

    `place` is the path of the value at fault, such as /recipe/epochs; None where the text is no
    JSON. The message begins with it.
    """

    def __init__(self, text: str, place: str | None = None) -> None:
        """Puts the place before the text."""
        super().__init__(text if place is None else f"{place or '/'}: {text}")
        self.place = place


def to_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """The value as JSON; NaN and infinity, which JSON does not have, become null.

    **Raises** TypeError or ValueError for what JSON cannot hold.
    """
    return json.dumps(finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def finite(value: Any) -> Any:
    """The value with each number that is not finite made None; tuples become lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in cast("Sequence[Any]", value)]
    return value


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds.

    **Raises** SchemaError for what is no JSON, NaN and infinity among it, for numbers too large
    to hold, keys that come twice, text that is no Unicode, and nesting deeper than `DEPTH`.
    """
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            object_pairs_hook=_once,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(f"it is no JSON: {error}") from error
    _check_inside(value)
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST:
        raise SchemaError(f"expected integers of less than 64 bits, got {shortened(digits)}")
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SchemaError(f"expected each key once, got {received(twice)} twice")
    return found


def _too_deep() -> SchemaError:
    return SchemaError(f"expected at most {DEPTH} levels of lists and objects, got more")


def _check_inside(value: Any) -> None:
    """Refuses nesting that would exhaust the stack, and numbers and text that no file can hold."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(DEPTH):
        for place, one in level:
            if isinstance(one, float) and not math.isfinite(one):
                raise SchemaError(f"expected a finite number, got {json.dumps(one)}", place)
            if isinstance(one, str) and not one.isascii():
                _check_text(one, place)
        level = [inner for place, outer in level for inner in _inside(outer, place)]
        if not level:
            return
    raise _too_deep()


def _inside(value: Any, place: str) -> Iterable[tuple[str, Any]]:
    """The keys and values of an object, or the entries of a list, each with its place."""
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield place, key
            yield f"{place}/{key}", inner
    elif isinstance(value, list):
        for i, inner in enumerate(cast("list[Any]", value)):
            yield f"{place}/{i}", inner


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SchemaError(f"expected text in Unicode, got {received(text)}", place) from error


def received(value: Any) -> str:
    """A value as an error names it."""
    if isinstance(value, list):
        return f"a list of {len(cast('list[Any]', value))}"
    if isinstance(value, dict):
        return "an object"
    return shortened(json.dumps(value))


def shortened(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= 40 else f"{text[:37]}..."
