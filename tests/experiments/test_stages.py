"""Stages as frozen dataclasses: what enters a key, and what does not."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from notbugs.experiments.experiment import Measurement, Stage, Work
from notbugs.experiments.numbers import Columns
from notbugs.experiments.overrides import overridden
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.szegedy2013 import config_for
from notbugs.store import SilentObserver, Store, run_stages


@dataclass(frozen=True)
class Part:
    size: float = 1.0


@dataclass(frozen=True)
class Source(Measurement):
    """Writes a number."""

    value: float
    part: Part = Part()

    def measure(self, work: Work) -> Columns:
        return {"value": self.value * self.part.size}


@dataclass(frozen=True)
class Sum(Measurement):
    """Adds what its inputs hold, wherever among the fields they are."""

    first: Source
    more: tuple[Source, ...] = ()
    named: Mapping[str, Source] = field(default_factory=dict)

    def measure(self, work: Work) -> Columns:
        inputs = (self.first, *self.more, *self.named.values())
        return {"value": sum(work.load(stage)["value"] or 0.0 for stage in inputs)}


@dataclass(frozen=True)
class Other(Measurement):
    """Has the fields of `Source`."""

    value: float
    part: Part = Part()

    def measure(self, work: Work) -> Columns:
        return {"value": 0.0}


def test_inputs_are_found_wherever_they_are_and_made_first(tmp_path: Path) -> None:
    total = Sum(Source(1.0), (Source(2.0), Source(3.0, Part(2.0))), {"x": Source(4.0)})
    assert set(total.inputs) == {"first", "more[0]", "more[1]", "named.x"}
    store = Store(tmp_path / "store")
    assert run_stages([total], store, workers=0, observer=SilentObserver()).computed == 5
    assert Work(tmp_path, store).load(total) == {"value": 13.0}


def test_every_field_enters_the_key() -> None:
    keys = {
        Source(1.0).key,
        Source(2.0).key,
        Source(1.0, Part(2.0)).key,
        Sum(Source(1.0)).key,
        Sum(Source(2.0)).key,
        Sum(Source(1.0), (Source(2.0),)).key,
        Sum(Source(1.0), (), {"x": Source(2.0)}).key,
    }
    assert len(keys) == 7
    assert Source(1.0).key == Source(1.0, Part(1.0)).key


def test_the_version_of_one_class_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    source, total, other = Source(1.0).key, Sum(Source(1.0)).key, Other(1.0).key
    monkeypatch.setattr(Source, "VERSION", 2)
    assert Source(1.0).key != source
    assert Sum(Source(1.0)).key != total  # its input is another
    assert Other(1.0).key == other


def test_another_class_with_the_same_fields_has_another_key() -> None:
    assert Other(1.0).key != Source(1.0).key


@dataclass(frozen=True)
class OTHER(Measurement):
    """Its name differs from another's in case alone."""

    value: float
    part: Part = Part()

    def measure(self, work: Work) -> Columns:
        return {"value": -self.value}


def test_names_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    store, stages = Store(tmp_path / "store"), (Other(5.0), OTHER(5.0))
    assert run_stages(stages, store, workers=0, observer=SilentObserver()).computed == 2
    work = Work(tmp_path, store)
    assert [work.load(stage)["value"] for stage in stages] == [0.0, -5.0]


SCRIPT = """
from dataclasses import dataclass
from pathlib import Path
from notbugs.experiments.experiment import Measurement, Work
from notbugs.store import SilentObserver, Store, run_stages

@dataclass(frozen=True)
class Mine(Measurement):
    n: int
    def measure(self, work):
        return {"value": FACTOR * self.n}

if __name__ == "__main__":
    store = Store(Path("store"))
    run_stages([Mine(2)], store, workers=WORKERS, observer=SilentObserver())
    print(Work(Path("."), store).load(Mine(2))["value"])
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_stages_of_scripts_are_keyed_by_the_script(tmp_path: Path, workers: int) -> None:
    """Also where a worker process makes them, to which the script has another name."""
    for name, factor in (("one", 7), ("two", 100), ("one", 7)):
        text = SCRIPT.replace("FACTOR", str(factor)).replace("WORKERS", str(workers))
        (tmp_path / f"{name}.py").write_text(text)
        done = subprocess.run(
            [sys.executable, f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert float(done.stdout) == 2 * factor


def test_a_label_does_not_enter_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Source(1.0).key
    monkeypatch.setattr(Source, "label", property(lambda self: "renamed"))
    assert Source(1.0).label == "renamed"
    assert Source(1.0).key == before


def test_a_field_without_a_fixed_form_is_named() -> None:
    @dataclass(frozen=True)
    class Odd(Stage[None]):
        what: Any

        def make(self, work: Work) -> None: ...

        def load(self, folder: Path, work: Work) -> None: ...

    with pytest.raises(TypeError, match="what"):
        _ = Odd(print).key
    with pytest.raises(ValueError, match=r"what.*finite"):
        _ = Odd(float("nan")).key


def test_settings_that_depend_on_each_other_are_checked_together() -> None:
    config = PAPERS["sparse-codes"].settings("digits", "smoke")
    for pair in (["counts=[1, 2]", "crossed=2"], ["crossed=2", "counts=[1, 2]"]):
        made = overridden(config, pair)
        assert (made.counts, made.crossed) == ((1, 2), 2)
    with pytest.raises(ValueError, match=r"--set crossed` must fit the settings; got 99"):
        overridden(config, ["crossed=99"])
    short = overridden(config, ["standard.epochs=3", "standard.warmup=0.0", "standard.epochs=4"])
    assert (short.standard.epochs, short.standard.warmup) == (4, 0.0)
    with pytest.raises(ValueError, match=r"Unknown setting 'nix'\. "):
        overridden(config, ["nix=3"])
    with pytest.raises(ValueError, match=r"--set counts` must be JSON; got \[1,"):
        overridden(config, ["counts=[1,"])


def test_settings_are_overridden_by_their_dotted_names() -> None:
    config = config_for("digits", "smoke")
    changed = overridden(config, ["recipe.epochs=3", "images=9", "seeds=2"])
    assert (changed.recipe.epochs, changed.images, changed.seeds) == (3, 9, 2)
    assert config.recipe.epochs != 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("recipe.epoch=3", "epochs"),
        ("imags=3", "images"),
        ("images=many", "images.*many"),
        ("images", "name=value"),
        ("recipe.epochs=0", "epochs"),
        ("images=0", "images"),
        ("seeds=0", "seeds"),
        ("seeds=100000", "seeds"),
        ("images=" + "[" * 20_000, "images"),
        ("recipe={}", "recipe.NAME"),
        ("images.foo=3", "images.foo"),
        ("recipe.momentum=1e30", "recipe.momentum"),
        ("data=mnist", "own flags"),
        ("images.x=3", "images.x"),
    ],
)
def test_a_wrong_override_is_refused(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overridden(config_for("digits", "smoke"), [override])
