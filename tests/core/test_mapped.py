"""Tests of tensors that lie in a temporary file where they are large."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from notbugs.core import mapped
from notbugs.core.errors import StoreError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Everything above 100 bytes counts as large; the folder of the files."""
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    monkeypatch.setattr(mapped, "CHUNK", 64)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir())  # files without a name: nothing to clean up


def in_file(tensor: Tensor) -> bool:
    """Whether the tensor's memory is a mapped file's, as Linux lists them."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux lists them")
    for line in maps.read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return "(deleted)" in line
    return False


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_large_tensors_lie_in_a_file(small: Path, dtype: torch.dtype) -> None:
    large, little = mapped.empty((9, 3, 5), dtype), mapped.empty((2, 2), dtype)
    assert large.dtype == dtype
    assert large.shape == (9, 3, 5)
    assert in_file(large)
    assert not in_file(little)
    large.fill_(3)
    assert int(large.sum()) == 3 * 9 * 15


@pytest.mark.parametrize("index", [[8, 0, 0, 3] * 5, [i % 3 == 0 for i in range(50)], []])
def test_rows_are_those_of_indexing(small: Path, index: list[int] | list[bool]) -> None:
    rows = torch.arange(50 * 12).reshape(50, 3, 4)
    chosen = torch.tensor(index, dtype=None if index else torch.int64)
    assert torch.equal(mapped.take(rows, chosen), rows[chosen])


def test_parts_follow_one_another(small: Path) -> None:
    rows = torch.rand(31, 7)
    joined = mapped.filled(31, rows.split(4))
    assert torch.equal(joined, rows)
    assert in_file(joined)


def test_a_disk_without_room_is_an_error_and_no_crash(small: Path) -> None:
    with pytest.raises(StoreError, match=r"1e\+06 GB for images in '.*set TMPDIR"):
        mapped.empty((10**12, 1000), torch.uint8)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.uint8)], "be of one type and shape"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "be of one type and shape"),
        ([torch.zeros(2, 3)], "must hold 4 rows; got 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mapped.filled(4, parts)
