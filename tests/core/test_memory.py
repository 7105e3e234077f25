"""Freed memory stays with the process, and the user can say no."""

import subprocess
import sys

import pytest

from notbugs.core.memory import keep_freed_memory

FAULTS = """
import resource, torch
from notbugs.core.memory import keep_freed_memory
print(keep_freed_memory())
torch.set_num_threads(1)
def use():
    parts = [torch.ones(6_000_000) for _ in range(4)]  # 24 MB each, freed together
    return sum(part.sum() for part in parts)
for _ in range(30):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(monkeypatch: pytest.MonkeyPatch, value):
    monkeypatch.setenv("NOTBUGS_KEEP_MEMORY", value)
    done = subprocess.run(
        (sys.executable, "-c", FAULTS), capture_output=True, text=True, check=True
    )
    said, count = done.stdout.split()
    return said == "True", int(count)


@pytest.mark.skipif(not keep_freed_memory(), reason="no glibc, or switched off")
def test_memory_that_was_freed_is_not_mapped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, few = faults(monkeypatch, "1")
    assert kept
    assert few < 2000  # of 117,000 pages asked for: what glibc does by itself varies


def test_the_user_can_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    left, _ = faults(monkeypatch, "0")
    assert not left
