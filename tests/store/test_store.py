"""The store: the same question has the same key, results are whole, runs resume."""

import subprocess
import sys
from pathlib import Path

import makers
import pytest

from notbugs.core.errors import StoreError
from notbugs.store import SilentObserver, Stage, Store, key_of, run_stages
from victims import killed_once

HERE = str(Path(__file__).parent)


def stage(producer, label="a stage", inputs=None, settings=None, cost=1.0, **config) -> Stage:
    return Stage(
        kind="test", label=label, producer=producer, version=1, config=config,
        inputs=inputs or {}, settings=settings or {}, cost=cost,
    )  # fmt: skip


def run(store, *targets, workers=0, observer=None):
    return run_stages(targets, store, workers=workers, observer=observer or SilentObserver())


def value(store, one):
    return int((store.find(one.kind, one.key).path / "value").read_text())


def test_keys_follow_from_the_question_alone() -> None:
    config = {"lr": 0.1, "sizes": (1, 2), "deep": {"a": None, "b": True}}
    key = key_of("train", 1, config, {"data": "abc"})
    assert key == "8fb1ac4cd7c990b6ad232c5f1ee188e5"
    assert key == key_of("train", 1, {**config, "sizes": [1, 2]}, {"data": "abc"})
    others = [
        key_of("build", 1, config, {"data": "abc"}),
        key_of("train", 2, config, {"data": "abc"}),
        key_of("train", 1, {**config, "lr": 0.2}, {"data": "abc"}),
        key_of("train", 1, config, {"data": "abd"}),
    ]
    assert len({key, *others}) == 5
    with pytest.raises(ValueError, match=r"`config.deep.x` must be finite; got nan"):
        key_of("train", 1, {"deep": {"x": float("nan")}}, {})
    with pytest.raises(TypeError, match=r"`config.path` must be made of numbers"):
        key_of("train", 1, {"path": Path("x")}, {})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_graph_is_made_once_and_found_again(tmp_path: Path, workers) -> None:
    store = Store(tmp_path / "store")
    a, b = stage(makers.constant, value=3), stage(makers.constant, value=4)
    both = stage(makers.add, inputs={"a": a, "b": b})
    more = stage(makers.add, inputs={"a": both}, more=10)
    first = run(store, more, both, workers=workers)
    assert value(store, more) == 17
    assert (first.computed, first.cached) == (4, 0)
    again = run(store, more, both, workers=workers)
    assert (again.computed, again.seconds_worked) == (0, 0.0)
    assert again.seconds_from_store > 0


def test_inputs_of_a_finished_stage_are_not_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a = stage(makers.constant, value=3)
    top = stage(makers.add, inputs={"a": a})
    run(store, top)
    path = store.find(a.kind, a.key).path
    (path / "meta.json").unlink()
    assert run(store, top).computed == 0


def test_the_longest_chain_begins_first(tmp_path: Path) -> None:
    begun = []

    class Watch(SilentObserver):
        def started(self, one) -> None:
            begun.append(one.label)

    long = stage(makers.constant, "first of a long chain", value=1, cost=1.0)
    end = stage(makers.add, "end", inputs={"a": long}, cost=9.0)
    short = stage(makers.constant, "short", value=2, cost=5.0)
    run(Store(tmp_path / "s"), short, end, observer=Watch())
    assert begun == ["first of a long chain", "end", "short"]


def test_foreign_and_impossible_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match=r"is not empty and not a notbugs store"):
        Store(tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"Cannot write to .*Choose a folder you may write to"):
        Store(tmp_path / "file")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No space left for .*finished work is kept") as caught:
        run(Store(tmp_path / "s"), stage(makers.full, "building D_R"))
    assert "While: building D_R" in caught.value.__notes__


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=3)
    run(store, one)
    (store.find(one.kind, one.key).path / "meta.json").write_text("{half")
    assert store.find(one.kind, one.key) is None
    assert run(store, one).computed == 1
    assert value(store, one) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_cross_with_the_name_of_the_stage(tmp_path: Path, workers) -> None:
    store = Store(tmp_path / "s")
    with pytest.raises(ValueError, match=r"`x` must be better; got worse") as caught:
        run(store, stage(makers.refuse, "train on D_R"), workers=workers)
    assert caught.value.__notes__ == ["While: train on D_R"]


def test_unexpected_errors_bring_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"While: odd(.|\n)*KeyError: 'deep inside'"):
        run(Store(tmp_path / "s"), stage(makers.crash, "odd"), workers=1)


def test_a_dead_worker_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"worker process died \(exit code 9\) while: fatal"):
        run(Store(tmp_path / "s"), stage(makers.die, "fatal"), workers=1)


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import makers
from pathlib import Path
from notbugs.store import SilentObserver, Stage, Store, run_stages
if __name__ == "__main__":
    one = Stage(kind="test", label="slow", producer=makers.count_slowly, version=1, config={{}},
                settings={{"log": {log!r}}})
    run_stages([one], Store(Path({root!r})), workers=1, observer=SilentObserver())
    print("done", one.key)
"""


def slow_script(tmp_path: Path):
    log = tmp_path / "log"
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT.format(here=HERE, log=str(log), root=str(tmp_path / "store")))
    return [sys.executable, str(script)], log


def test_kill_9_then_the_same_command_goes_on_where_it_stood(tmp_path: Path) -> None:
    command, log = slow_script(tmp_path)
    killed_once(lambda: log.exists() and len(log.read_text().splitlines()) >= 3, command)
    before = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert before[-1] < 9
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.startswith("done")
    steps = [int(line.split()[0]) for line in log.read_text().splitlines()]
    # At most the step under way at the kill was done twice; none before it was.
    assert steps[len(before)] in (before[-1], before[-1] + 1)
    assert sorted(set(steps)) == list(range(10))


def test_two_processes_on_one_store_make_a_stage_once(tmp_path: Path) -> None:
    command, log = slow_script(tmp_path)
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=90)[0] for process in pair}
    assert len(said) == 1
    assert [int(line.split()[0]) for line in log.read_text().splitlines()] == list(range(10))
