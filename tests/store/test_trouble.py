"""What goes wrong around a run: full disks, dead workers, races, bad arguments, Ctrl-C."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import makers
import pytest

from notbugs.core.errors import StoreError
from notbugs.store import SilentObserver, Stage, Store, run_stages

FULL = OSError(errno.ENOSPC, "No space left on device")


def stage(producer, label="a stage", inputs=None, settings=None, **config) -> Stage:
    return Stage(
        kind="test", label=label, producer=producer, version=1, config=config,
        inputs=inputs or {}, settings=settings or {},
    )  # fmt: skip


def run(store, *targets, workers=0, observer=None, **options):
    seen = observer or SilentObserver()
    return run_stages(targets, store, workers=workers, observer=seen, **options)


def value(store, one):
    return int((store.find(one.kind, one.key).path / "value").read_text())


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def raiser(error):
    def refuse(*_, **__) -> None:
        raise error

    return refuse


def test_only_what_the_targets_need_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    a, b = stage(makers.constant, value=1), stage(makers.constant, value=2)
    run(store, stage(makers.add, inputs={"a": a}))
    assert store.find(a.kind, a.key) is not None
    assert store.find(b.kind, b.key) is None
    assert {entry.key for entry in store.entries()} > {a.key}


def test_the_observer_hears_everything_in_order(tmp_path: Path) -> None:
    heard = []

    class Watch(SilentObserver):
        def planned(self, total, cost, stored) -> None:
            heard.append(("planned", total, cost, stored))

        def started(self, one) -> None:
            heard.append(("started", one.label))

        def progressed(self, one, fraction) -> None:
            heard.append(("progressed", fraction))

        def finished(self, one, seconds) -> None:
            heard.append(("finished", one.label, seconds >= 0))

    store, a = Store(tmp_path / "s"), stage(makers.constant, "first", value=1)
    run(store, a)
    run(store, stage(makers.constant, "second", value=2), a, observer=Watch())
    assert heard == [
        ("planned", 1, 1.0, 1), ("started", "second"), ("progressed", 1.0),
        ("finished", "second", True),
    ]  # fmt: skip


def test_facts_are_kept_beside_a_result(tmp_path: Path) -> None:
    store, a = Store(tmp_path / "s"), stage(makers.constant, value=1)
    top = stage(makers.add, inputs={"a": a}, settings={"device": "cpu"}, more=1)
    run(store, top)
    entry = store.find(top.kind, top.key)
    facts = json.loads((entry.path / "meta.json").read_text())
    assert (facts["config"], facts["inputs"]) == ({"more": 1}, {"a": a.key})
    assert (facts["key"], facts["version"]) == (top.key, 1)
    assert {"machine", "created", "seconds"} <= set(facts)
    assert not any((tmp_path / "s" / "partial" / "test").iterdir())


def test_settings_do_not_change_a_key() -> None:
    one = stage(makers.constant, value=1, settings={"device": "cpu"})
    assert one.key == stage(makers.constant, value=1, settings={"device": "cuda"}).key


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_missing_elsewhere_is_not_blamed_on_the_store(tmp_path: Path, workers) -> None:
    with pytest.raises(FileNotFoundError, match=r"no-such-data.idx") as caught:
        run(Store(tmp_path / "s"), stage(makers.misread, "read the data"), workers=workers)
    assert caught.value.__notes__ == ["While: read the data"]


def test_a_file_of_the_store_that_cannot_be_written_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Cannot write to .*Choose a folder you may write to"):
        run(Store(tmp_path / "s"), stage(makers.break_own_file))


def test_a_disk_that_fills_at_the_end_of_a_stage_leaves_it_to_be_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raiser(FULL))
        with pytest.raises(StoreError, match=r"No space left for '.*s'.*--store; finished work"):
            run(store, one)
    assert store.find(one.kind, one.key) is None
    assert run(store, one).computed == 1
    assert value(store, one) == 5


def test_a_disk_that_is_full_or_read_only_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", raiser(FULL))
        with pytest.raises(StoreError, match=r"No space left for"):
            Store(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", raiser(OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(StoreError, match=r"Cannot write to .*: Read-only file system"):
            Store(tmp_path / "s")
    Store(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", raiser(PermissionError(errno.EACCES, "Permission denied")))
        with pytest.raises(StoreError, match=r"Cannot write to .*: Permission denied"):
            Store(tmp_path / "s")


def test_another_process_may_claim_the_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, looked = tmp_path / "s", []
    exists = Path.exists

    def late(path):
        """The marker appears between the first look for it and the look at the folder."""
        if path.name == "notbugs-store.json" and not looked:
            looked.append(path)
            found = exists(path)
            Store(root)
            return found
        return exists(path)

    monkeypatch.setattr(Path, "exists", late)
    Store(root)
    assert looked


def test_a_damaged_result_is_moved_aside_and_not_lost(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=3)
    run(store, one)
    meta = store.find(one.kind, one.key).path / "meta.json"
    for text in ("", "[]", '{"seconds": "soon"}'):
        meta.write_text(text)
        assert store.find(one.kind, one.key) is None
        assert run(store, one).computed == 1
    assert len(list((tmp_path / "s" / "partial").glob("damaged-*"))) == 3


def test_bad_numbers_of_workers_and_threads(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=1)
    with pytest.raises(ValueError, match=r"`workers` must be at least 0; got -1. 0 works in this"):
        run(store, one, workers=-1)
    with pytest.raises(ValueError, match=r"`threads` must be at least 1; got 0"):
        run(store, one, workers=1, threads=0)


def test_the_environment_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
    run(Store(tmp_path / "s"), stage(makers.constant, value=1), workers=1)
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_worker_killed_in_mid_stage_is_named_and_its_work_is_kept(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "s"), tmp_path / "log"
    slow = stage(makers.count_slowly, "count to ten", settings={"log": str(log)})

    def kill() -> None:
        while len(lines(log)) < 4:
            time.sleep(0.01)
        os.kill(int(lines(log)[0].split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(StoreError, match=r"died \(exit code -9\) while: count to ten.*--workers"):
        run(store, slow, workers=1)
    killer.join()
    done = len(lines(log))
    assert run(store, slow, workers=1).computed == 1
    assert value(store, slow) == 10
    assert int(lines(log)[done].split()[0]) >= done - 1  # goes on from the note, not from 0


def test_a_worker_that_dies_between_stages_is_explained(tmp_path: Path) -> None:
    first = stage(makers.constant, "first", value=1)
    second = stage(makers.add, "second", inputs={"a": first})

    class Killer(SilentObserver):
        def finished(self, one, seconds) -> None:
            import multiprocessing

            for process in multiprocessing.active_children():
                process.kill()
                process.join()

    with pytest.raises(StoreError, match=r"died \(exit code -9\) while: second"):
        run(Store(tmp_path / "s"), second, workers=1, observer=Killer())


def test_who_waits_for_another_process_says_so_and_does_not_count_its_work(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "s"), tmp_path / "log"
    slow = stage(makers.count_slowly, settings={"log": str(log)})
    waited = []

    class Watch(SilentObserver):
        def waiting(self, one) -> None:
            waited.append(one.label)

    first = threading.Thread(target=lambda: run(store, slow))
    first.start()
    while not lines(log):
        time.sleep(0.01)
    summary = run(store, slow, observer=Watch())
    first.join()
    assert "a stage" in waited
    assert (summary.computed, summary.cached, summary.seconds_worked) == (0, 1, 0.0)
    assert summary.seconds_from_store > 0.5
    assert [int(line.split()[0]) for line in lines(log)] == list(range(10))


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
sys.path.insert(0, {here!r})
import makers
from pathlib import Path
from notbugs.store import SilentObserver, Stage, Store, run_stages
if __name__ == "__main__":
    config, settings = {{}}, {{"log": {log!r}}}
    one = Stage(kind="test", label="slow", producer=makers.{producer}, version=1, config=config,
                settings=settings)
    try:
        run_stages([one], Store(Path({root!r})), workers=2, observer=SilentObserver())
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.parametrize("producer", ["count_slowly", "count_and_save"])
def test_ctrl_c_stops_everything_quietly_and_work_that_can_is_saved(
    producer, tmp_path: Path
) -> None:
    log, script = tmp_path / "log", tmp_path / "slow.py"
    here = str(Path(__file__).parent)
    script.write_text(
        INTERRUPTED.format(here=here, log=str(log), root=str(tmp_path / "s"), producer=producer)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while len(lines(log)) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers alike
    said, complained = process.communicate(timeout=30)
    assert (said, complained) == ("stopped\n", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines(log)[0].split()[1]), 0)
    (note,) = tmp_path.glob("s/partial/test/*/note")
    if producer == "count_and_save":
        assert int(note.read_text()) == len(lines(log))
