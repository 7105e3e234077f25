"""Stored results that are not what they were: they count as absent, and are made again."""

import json
import shutil
import time
from pathlib import Path

import makers
import pytest

from notbugs.store import SilentObserver, Stage, Store, run_stages
from notbugs.store.digests import Digests


def stage(producer, label="a stage", inputs=None, **config) -> Stage:
    return Stage(
        kind="test", label=label, producer=producer, version=1, config=config, inputs=inputs or {}
    )


class Listening(SilentObserver):
    def __init__(self) -> None:
        self.heard = []

    def noticed(self, one, text) -> None:
        self.heard.append((one.label, text))


def run(store, *targets, workers=0):
    """(stages made, what was noticed)"""
    listening = Listening()
    made = run_stages(targets, store, workers=workers, observer=listening).computed
    return made, listening.heard


def place(store, one):
    return store.root / one.kind / one.key


def value(store, one):
    return int((store.get(one.kind, one.key).path / "value").read_text())


def edit(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "another value": (lambda f: (f / "value").write_text("4"), "'value' was changed after"),
    "cut": (lambda f: (f / "value").write_text(""), "'value' was changed after"),
    "missing": (lambda f: (f / "value").unlink(), "'value' is missing"),
    "a folder": (lambda f: [(f / "value").unlink(), (f / "value").mkdir()], "'value' is missing"),
    "no facts": (lambda f: (f / "meta.json").unlink(), "'meta.json' is missing"),
    "half of the facts": (lambda f: (f / "meta.json").write_text("{half"), "is damaged: "),
    "facts in binary": (lambda f: (f / "meta.json").write_bytes(b"\xff\xfe\x00"), "is damaged: "),
    "deep facts": (lambda f: (f / "meta.json").write_text("[" * 100_000), "is damaged: "),
    "facts edited": (lambda f: edit(f / "meta.json", seconds=1e9), "was changed after"),
    "seconds that are no number": (
        lambda f: edit(f / "meta.json", seconds=float("nan")),
        "'meta.json' is damaged: /seconds: expected a finite number, got NaN",
    ),
    "facts without digests": (lambda f: edit(f / "meta.json", digest=None), "without a digest"),
    "nothing left": (lambda f: [p.unlink() for p in f.iterdir()], "'meta.json' is missing"),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_is_absent_named_once_and_made_again(tmp_path: Path, damage, why) -> None:
    store = Store(tmp_path / "s")
    one = stage(makers.constant, "the three", value=3)
    top = stage(makers.add, "the sum", inputs={"a": one})
    run(store, one, top)
    damage(place(store, one))
    assert store.find(one.kind, one.key) is None
    assert why in store.fault(one.kind, one.key)
    made, heard = run(Store(tmp_path / "s"), one, top)
    assert made == 1  # what depends on it keeps its key and stays
    assert [label for label, _ in heard] == ["the three"]
    assert "Its stored result is damaged (" in heard[0][1]
    assert why in heard[0][1]
    assert "it is made again." in heard[0][1]
    assert (value(store, one), value(store, top)) == (3, 3)
    assert run(store, one, top) == (0, [])
    assert len(list((tmp_path / "s" / "partial").glob("damaged-*"))) == 1


def test_two_results_that_changed_places_are_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    one, two = stage(makers.constant, value=1), stage(makers.constant, value=2)
    run(store, one, two)
    first, second = place(store, one), place(store, two)
    first.rename(tmp_path / "between")
    second.rename(first)
    (tmp_path / "between").rename(second)
    assert store.fault(one.kind, one.key) == f"it belongs to test/{two.key}"
    assert run(store, one, two)[0] == 2
    assert (value(store, one), value(store, two)) == (1, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_producer_notices_is_heard(tmp_path: Path, workers) -> None:
    one = stage(makers.notice, "the first")
    assert run(Store(tmp_path / "s"), one, workers=workers)[1] == [("the first", "look here")]


def test_a_damaged_input_of_a_finished_stage_does_no_harm(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=1)
    top = stage(makers.add, inputs={"a": one})
    run(store, top)
    (place(store, one) / "value").write_text("7")
    assert run(store, top) == (0, [])
    more = stage(makers.add, inputs={"a": one}, more=1)
    made, heard = run(store, more)
    assert (made, len(heard)) == (2, 1)
    assert value(store, more) == 2


def test_damage_after_the_first_look_is_noticed(tmp_path: Path) -> None:
    """The digest of a file is kept only as long as its times and size are."""
    path, digests = tmp_path / "a", Digests()
    for text in ("1", "2", "3"):
        path.write_text(text)
        assert digests.of(path) == Digests().of(path)
    time.sleep(0.15)
    known = digests.of(path)
    path.write_text("4")
    assert digests.of(path) != known


def test_a_file_is_read_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digests = tmp_path / "a", Digests()
    path.write_text("1")
    time.sleep(0.15)
    known = digests.of(path)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert digests.of(path) == known


def test_what_a_kill_left_half_written_does_not_get_into_the_result(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=1)
    with store.working(one.kind, one.key) as work:
        (work / ".value.1234.tmp").write_text("half")
        (work / "meta.json").write_text("{half")
    run(store, one)
    assert {p.name for p in place(store, one).iterdir()} == {"meta.json", "value"}
    assert store.get(one.kind, one.key).meta["files"].keys() == {"value"}


def test_a_store_deleted_under_a_run_is_a_store_afterwards(tmp_path: Path) -> None:
    root = tmp_path / "s"

    class Deletes(SilentObserver):
        def planned(self, total, cost, stored) -> None:
            shutil.rmtree(root)

    one = stage(makers.constant, value=1)
    run_stages([one], Store(root), workers=0, observer=Deletes())
    assert value(Store(root), one) == 1
    assert run(Store(root), one) == (0, [])


def test_unfinished_work_without_a_marker_is_a_store(tmp_path: Path) -> None:
    """A run was killed after its folder had been deleted."""
    store, one = Store(tmp_path / "s"), stage(makers.constant, value=1)
    with store.working(one.kind, one.key):
        pass
    (tmp_path / "s" / "notbugs-store.json").unlink()
    assert run(Store(tmp_path / "s"), one)[0] == 1
