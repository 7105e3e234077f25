"""Laws of all papers that are one value: they run, repeat, resume, and hide nothing."""

import json
import pickle
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from notbugs.core.errors import DataError
from notbugs.experiments.experiment import Experiment
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.experiments.page import PictureRows
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.running import Machine, run
from notbugs.report import write_paper
from notbugs.report.figures.kinds import Drawn
from notbugs.report.reading import read_samples
from notbugs.store import AnyStage, SilentObserver, Store

TIMES = ("seconds", "seconds_total", "seconds_wall")


class Counting(SilentObserver):
    """Counts the stages that are made, and stops the run before one of them."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.made, self.stop_before = 0, stop_before

    def started(self, stage: AnyStage) -> None:
        if self.made == self.stop_before:
            raise KeyboardInterrupt
        self.made += 1


def smoke(paper: Experiment[Any], folder: Path, observer: SilentObserver) -> dict[str, Any]:
    config = paper.config_for("digits", "smoke")
    store = Store(folder / "store")
    return run(paper, config, store, out=folder, machine=Machine(), observer=observer)


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in TIMES}


@pytest.fixture(scope="module", params=sorted(PAPERS))
def paper(request: pytest.FixtureRequest) -> Experiment[Any]:
    return PAPERS[request.param]


@pytest.fixture(scope="module")
def finished(
    paper: Experiment[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], int]:
    """A run that was stopped four times on its way."""
    folder, made = tmp_path_factory.mktemp(paper.name), 0
    for stop in (0, 3, 5, 9):
        counting = Counting(stop)
        with pytest.raises(KeyboardInterrupt):
            smoke(paper, folder, counting)
        made += counting.made
    counting = Counting()
    return folder, smoke(paper, folder, counting), made + counting.made


def test_stopped_runs_end_with_the_numbers_of_one_that_was_not(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    _, result, made = finished
    counting = Counting()
    assert numbers_of(smoke(paper, tmp_path, counting)) == numbers_of(result)
    assert counting.made == made


def test_a_second_run_makes_nothing(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    folder, result, _ = finished
    counting = Counting()
    assert numbers_of(smoke(paper, folder, counting)) == numbers_of(result)
    assert counting.made == 0
    stored = json.loads((folder / "results.json").read_text())
    assert numbers_of(stored) == json.loads(json.dumps(numbers_of(result)))


def test_every_number_that_a_claim_reads_is_there(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    numbers = Numbers(finished[1]["tables"])
    for claim in paper.claims(paper.config_for("digits", "smoke")):
        for cell in claim.rule.cells:
            assert numbers.values(cell), f"{claim.id}: {cell}"


def test_claims_have_sources_and_names_of_their_own(paper: Experiment[Any]) -> None:
    claims = paper.claims(paper.config_for("digits", "smoke"))
    ids = [claim.id for claim in claims]
    assert len(set(ids)) == len(ids)
    for i, claim in enumerate(claims):
        assert set(claim.needs) <= set(ids[:i])
        place = r"table \d|section \d|figure \d|not published"
        assert re.search(place, claim.published), claim.id
        if re.search(r"[<>]= [\d.]", claim.rule.text):
            assert claim.fixed, f"{claim.id} does not say from what its bound was fixed"


def test_the_page_shows_every_table_figure_and_claim(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    folder, result, _ = finished
    page = write_paper(folder).read_text()
    for claim in result["claims"]:
        assert claim["statement"].replace("'", "&#39;") in page
    shown = {t.table for section in paper.sections for t in section.tables}
    assert shown == set(result["tables"])
    numbers, pictures = Numbers(result["tables"]), read_samples(folder / "pictures.safetensors")
    drawn = Drawn(numbers, pictures, paper.columns)
    for i, section in enumerate(paper.sections):
        for j, figure in enumerate(section.figures):
            assert drawn.has(figure)
            for suffix in ("png", "svg"):
                assert (folder / "figures" / f"figure-{i + 1}-{j + 1}.{suffix}").stat().st_size
            if not isinstance(figure, PictureRows):
                row = next(iter(result["tables"][figure.table]))
                for column in getattr(figure, "columns", None) or ():
                    assert numbers.values(Cell(figure.table, row, column))
    assert "undecided at 1 seed" in page
    assert "verdicts say nothing" in page


def test_every_column_is_described(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    numbers = Numbers(finished[1]["tables"])
    for table in finished[1]["tables"]:
        assert set(numbers.columns(table)) <= set(paper.columns)


def test_stages_survive_pickling_with_their_keys(paper: Experiment[Any]) -> None:
    for row in paper.rows(paper.config_for("digits", "smoke"), 0):
        again = pickle.loads(pickle.dumps(row.stage))
        assert (again.key, again.kind, again.label) == (
            row.stage.key,
            row.stage.kind,
            row.stage.label,
        )


def test_a_changed_setting_changes_some_key(paper: Experiment[Any]) -> None:
    config = paper.config_for("digits", "smoke")

    def keys(config: Any) -> set[str]:
        return {row.stage.key for row in paper.rows(config, 0)}

    known = keys(config)
    unused = {"preset", "seeds"}  # what a run is made of, not a number's setting
    for field in fields(config):
        value = getattr(config, field.name)
        other: Any = None
        if field.name in unused:
            continue
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        elif isinstance(value, str):
            other = f"{value}x"
        elif field.name == "recipe":
            other = replace(value, lr=2 * value.lr)
        if other is not None:
            assert keys(replace(config, **{field.name: other})) != known, field.name
    assert keys(replace(config, preset="laptop", seeds=9)) == known


def test_the_seed_changes_every_key(paper: Experiment[Any]) -> None:
    config = paper.config_for("digits", "smoke")
    first, second = ({row.stage.key for row in paper.rows(config, seed)} for seed in (0, 1))
    assert not first & second


def test_results_of_another_paper_are_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match=r"results\.json"):
        write_paper(tmp_path)
