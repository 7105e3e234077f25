"""Keys: equal questions have equal keys, and what has no canonical form is named."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notbugs.store import key_of

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
PLAIN = st.recursive(
    LEAVES.filter(lambda v: v not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def key(config):
    return key_of("test", 1, config, {})


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_a_key_survives_json_and_does_not_depend_on_order(config) -> None:
    assert key(json.loads(json.dumps(config))) == key(config)
    assert key(dict(reversed(config.items()))) == key(config)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_nearest_other_number_has_another_key(value) -> None:
    import math

    other = math.nextafter(value, 0.0 if value else 1.0)
    assert key({"eps": other}) != key({"eps": value})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"a": [1, {"b": float("inf")}]}, r"`config.a\[1\].b` must be finite; got inf"),
        ({"t": torch.zeros(1)}, r"`config.t` must be made of numbers.*got Tensor"),
        ({"raw": b"ab"}, r"`config.raw` must be made of numbers.*got bytes"),
        ({"s": {1, 2}}, r"`config.s` must be made of numbers.*got set"),
        ({"by": {1: "one"}}, r"`config.by` must be named by strings throughout; got int"),
    ],
)
def test_what_has_no_canonical_form_is_named(config, words) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        key(config)
