"""Digests: what was changed after it was written is noticed, whatever was changed."""

import json

import pytest
import torch

from notbugs.core.digests import digest_of, tensor_bytes, verify_digest, with_digest

CONTENT = {"seconds": 1.5, "rows": [1, 2], "deep": {"a": None, "b": True}}


def test_what_is_sealed_comes_back() -> None:
    assert verify_digest(json.loads(json.dumps(with_digest(CONTENT)))) == CONTENT
    assert verify_digest(with_digest({"seconds": float("inf")})) == {"seconds": float("inf")}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (with_digest(CONTENT) | {"seconds": 1.6}, "changed after it was written"),
        (with_digest(CONTENT) | {"more": 1}, "changed after it was written"),
        (with_digest(CONTENT) | {"digest": "0" * 64}, "changed after it was written"),
        (CONTENT, "without a digest"),
        ([CONTENT], "no JSON object"),
        (None, "no JSON object"),
    ],
)
def test_what_was_changed_is_refused(changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        verify_digest(changed)


def test_every_part_of_tensors_enters_their_digest() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(6, dtype=torch.int32)}
    same = {"b": tensors["b"].clone(), "a": torch.zeros(3, 2).T}
    assert digest_of(same, {"x": "1"}) == digest_of(tensors, {"x": "1"})
    others = [
        digest_of(tensors, {}),
        digest_of(tensors, {"x": "2"}),
        digest_of({**tensors, "a": torch.zeros(3, 2)}, {"x": "1"}),
        digest_of({**tensors, "a": torch.zeros(2, 3, dtype=torch.int32)}, {"x": "1"}),
        digest_of({**tensors, "b": tensors["b"].view(torch.float32)}, {"x": "1"}),
        digest_of({"a": tensors["a"], "c": tensors["b"]}, {"x": "1"}),
    ]
    assert len({digest_of(tensors, {"x": "1"}), *others}) == 7


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.complex64, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_of_any_kind_have_bytes(dtype, shape) -> None:
    tensor = torch.zeros(shape, dtype=dtype)
    assert len(tensor_bytes(tensor)) == tensor.numel() * tensor.element_size()
