"""Strict JSON: written to the standard, and read with limits on depth, numbers and text."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

DEPTH = 64
"""The deepest nesting of lists and objects that is read."""
LARGEST = 2**63
"""Integers must be smaller than this, so that they fit into 64 bits."""


class SchemaError(ValueError):
    """JSON that cannot be parsed, or does not match its schema.

    `place` is the path of the invalid value, such as /recipe/epochs; None where the text is not
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
    """The value with every non-finite number replaced by None; tuples become lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in cast("Sequence[Any]", value)]
    return value


def parse_json(text: str | bytes) -> Any:
    """Parses a JSON text.

    **Raises** SchemaError for invalid JSON (NaN and infinity are invalid), numbers that are too
    large, duplicate keys, text that is not Unicode, and nesting deeper than `DEPTH`.
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
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise SchemaError(f"expected each key once, got {received(duplicate)} twice")
    return unique


def _too_deep() -> SchemaError:
    return SchemaError(f"expected at most {DEPTH} levels of lists and objects, got more")


def _check_inside(value: Any) -> None:
    """Refuses deep nesting, non-finite numbers, and text that cannot be encoded."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(DEPTH):
        for place, item in level:
            if isinstance(item, float) and not math.isfinite(item):
                raise SchemaError(f"expected a finite number, got {json.dumps(item)}", place)
            if isinstance(item, str) and not item.isascii():
                _check_text(item, place)
        level = [inner for place, outer in level for inner in _inside(outer, place)]
        if not level:
            return
    raise _too_deep()


def _inside(value: Any, place: str) -> Iterable[tuple[str, Any]]:
    """The keys and values of an object, or the entries of a list, each with its path."""
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
    """A short description of a value for an error message."""
    if isinstance(value, list):
        return f"a list of {len(cast('list[Any]', value))}"
    if isinstance(value, dict):
        return "an object"
    return shortened(json.dumps(value))


def shortened(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= 40 else f"{text[:37]}..."
