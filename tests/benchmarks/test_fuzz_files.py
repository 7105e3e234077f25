"""Edited files are refused in our own words: a sample of `benchmarks/fuzz_files.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fuzz_files import fuzz


def test_no_edit_of_a_file_ends_in_a_traceback() -> None:
    ends = fuzz(42, seed=0)
    assert len(ends) == 6
    assert not [end for found in ends.values() for end in found if end.startswith("traceback")]
    assert sum(found["refused"] for found in ends.values()) > 20
