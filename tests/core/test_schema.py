"""JSON is read by its schema: each fault is named by its place."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest

from notbugs.core.errors import DataError, StoreError
from notbugs.core.schema import REST, fit, read_json, read_json_file
from notbugs.core.strict_json import SchemaError, parse_json, to_json


@dataclass(frozen=True)
class Inner:
    epochs: int
    lr: float = 0.1
    name: str | None = None


@dataclass(frozen=True)
class Row:
    row: str
    numbers: dict[str, float | None] = field(default_factory=dict, metadata=REST)


class Outer(TypedDict):
    recipe: Inner
    sizes: tuple[int, int]
    rows: NotRequired[list[Row]]


GOOD = {"recipe": {"epochs": 3}, "sizes": [1, 2], "rows": [{"row": "a", "x": 1}], "mine": [True]}


def test_what_fits_comes_as_its_classes_and_an_open_object_keeps_the_rest() -> None:
    found = fit(Outer, GOOD)
    assert found["recipe"] == Inner(3)
    assert found["sizes"] == (1, 2)
    assert found["rows"] == [Row("a", {"x": 1.0})]
    assert found["mine"] == [True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": {"epochs": "ten"}}, '/recipe/epochs: expected an integer, got "ten"'),
        ({"recipe": {"epochs": 1.0}}, "/recipe/epochs: expected an integer, got 1.0"),
        ({"recipe": {"epochs": True}}, "/recipe/epochs: expected an integer, got true"),
        ({"recipe": {"epochs": [1, 2]}}, "/recipe/epochs: expected an integer, got a list of 2"),
        ({"recipe": {}}, "/recipe/epochs: expected an integer, got nothing"),
        (
            {"recipe": {"epochs": 1, "lrr": 2}},
            "/recipe/lrr: expected no such key (did you mean 'lr",
        ),
        ({"recipe": {"epochs": 1, "lr": None}}, "/recipe/lr: expected a finite number, got null"),
        ({"recipe": {"epochs": 1, "name": 5}}, "/recipe/name: expected text or null, got 5"),
        ({"recipe": None}, "/recipe: expected an object, got null"),
        ({"sizes": [1]}, "/sizes: expected 2 entries, got a list of 1"),
        ({"sizes": [1, "2"]}, '/sizes/1: expected an integer, got "2"'),
        (
            {"rows": [{"row": "a", "x": "1"}]},
            '/rows/0/x: expected a finite number or null, got "1"',
        ),
        ({"rows": {}}, "/rows: expected a list, got an object"),
    ],
)
def test_a_fault_is_named_by_its_place(change, words, tmp_path: Path) -> None:
    with pytest.raises(SchemaError) as caught:
        fit(Outer, GOOD | change)
    assert str(caught.value).startswith(words)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(StoreError) as told:
        read_json_file(Outer, path, remedy="Mend it.", error=StoreError)
    assert str(told.value).startswith(f"'{path}' is damaged: {words}")
    assert str(told.value).endswith("Mend it.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "levels of lists and objects"),
        ("[" * 70 + "]" * 70, "levels of lists and objects"),
        ('{"a":' * 70 + "1" + "}" * 70, "levels of lists and objects"),
        ("[NaN]", "/0: expected a finite number, got NaN"),
        ('{"a": [1, {"b": -Infinity}]}', "/a/1/b: expected a finite number, got -Infinity"),
        ("[1e999]", "/0: expected a finite number, got Infinity"),
        ("[1" + "0" * 5000 + "]", "integers of less than 64 bits"),
        ("[9223372036854775808]", "integers of less than 64 bits"),
        ('{"a": 1, "a": 2}', 'each key once, got "a" twice'),
        (r'["\ud800"]', "text in Unicode"),
        ("{", "it is no JSON"),
        ("", "it is no JSON"),
        (b"\xff\xfe\x00", "it is no JSON"),
        (b'{"a": "\xff"}', "it is no JSON"),
    ],
)
def test_what_no_reader_should_meet_is_refused(text, words) -> None:
    with pytest.raises(SchemaError, match=words):
        parse_json(text)
    with pytest.raises(DataError, match=r"^The text is damaged: .* Mend it\.$"):
        read_json(Any, text, of="the text", remedy="Mend it.")


def test_what_is_written_holds_no_number_that_json_has_not() -> None:
    value = {"a": math.nan, "b": [math.inf, (-math.inf, 1.5)], "c": {"d": True}}
    assert parse_json(to_json(value)) == {"a": None, "b": [None, [None, 1.5]], "c": {"d": True}}
