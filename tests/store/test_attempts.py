"""Second attempts, flushed results, markers of other versions, what cannot be a producer."""

import functools
import json
import os
from contextlib import nullcontext
from pathlib import Path

import makers
import pytest
import torch

from notbugs.core.errors import StoreError
from notbugs.store import SilentObserver, Stage, Store, run_stages


def stage(producer, label="a stage", **config) -> Stage:
    return Stage(kind="test", label=label, producer=producer, version=1, config=config)


def run(store, one, workers=0):
    return run_stages([one], store, workers=workers, observer=SilentObserver())


def test_seconds_add_up_over_failed_attempts(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.fail_at_first)
    with pytest.raises(ValueError, match="not yet"):
        run(store, one)
    summary = run(store, one)
    entry = store.find(one.kind, one.key)
    assert entry.seconds >= 0.4
    assert 0.2 <= summary.seconds_worked < entry.seconds
    assert summary.seconds_worked + summary.seconds_from_store == pytest.approx(entry.seconds)
    assert {path.name for path in entry.path.iterdir()} == {"meta.json", "value"}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("producer", [makers.threads, makers.refuse])
def test_stages_compute_with_the_threads_that_were_asked_for(
    tmp_path: Path, workers, producer
) -> None:
    """In this process as in workers, so that sums are rounded alike; ours has its own again."""
    store, one, before = Store(tmp_path / "s"), stage(producer), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with nullcontext() if producer is makers.threads else pytest.raises(ValueError):  # noqa: PT011
            run_stages([one], store, workers=workers, threads=2, observer=SilentObserver())
            assert (store.find(one.kind, one.key).path / "value").read_text() == "2"
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("note", ["{half", "NaN", "Infinity", "-1", "[]", "[" * 100_000])
def test_a_damaged_note_of_seconds_is_no_obstacle(tmp_path: Path, note) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=1)
    with store.working(one.kind, one.key) as work:
        (work / "attempt-seconds.json").write_text(note)
    assert run(store, one).computed == 1
    assert 0 <= store.get(one.kind, one.key).seconds < 60


def test_every_file_is_flushed_before_the_result_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, flush = [], os.fsync

    def watch(descriptor) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    one = stage(makers.constant, value=1)
    run(Store(tmp_path / "s"), one)
    work = tmp_path / "s" / "partial" / "test" / one.key
    assert {work, work / "value", work / "meta.json"} <= set(flushed)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_in_another_librarys_words(tmp_path: Path, workers) -> None:
    with pytest.raises(StoreError, match=r"No space left for '.*s'.*--store; finished work"):
        run(Store(tmp_path / "s"), stage(makers.full_in_other_words), workers)


def test_markers(tmp_path: Path) -> None:
    marker = tmp_path / "s" / "notbugs-store.json"
    Store(tmp_path / "s")
    assert json.loads(marker.read_text()) == {"format": 1}
    marker.write_text('{"notbugs-store": 1}')  # as the first stores had it
    Store(tmp_path / "s")
    marker.write_text('{"format": 2}')
    with pytest.raises(StoreError, match=r"store of format 2; this version reads 1. Update"):
        Store(tmp_path / "s")
    for text in ("", "[]", "{half"):
        marker.write_text(text)
        with pytest.raises(StoreError, match=r"notbugs-store.json' is damaged.*delete that one"):
            Store(tmp_path / "s")


def test_a_producer_must_be_found_by_its_name() -> None:
    def inner(context):
        return None

    for producer in (lambda context: None, inner, functools.partial(makers.add), "x".join):
        with pytest.raises(ValueError, match=r"`producer` must be a function on a module's top"):
            stage(producer)


def test_an_error_brings_the_workers_traceback_as_its_cause(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be better") as caught:
        run(Store(tmp_path / "s"), stage(makers.refuse), workers=1)
    assert "in refuse" in str(caught.value.__cause__)


def test_a_worker_that_python_ended_points_at_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"exit code 1\) while: fatal\. What it printed.*__main__"):
        run(Store(tmp_path / "s"), stage(makers.leave, "fatal"), workers=1)
