"""Laws of all papers that are one value: they run, repeat, resume, and hide nothing."""

import json
import pickle
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from experiments import tiny_paper
from notbugs.core.errors import DataError
from notbugs.experiments.experiment import Experiment, Row
from notbugs.experiments.numbers import UPPER_BOUND, Cell, Numbers
from notbugs.experiments.page import Curves, PictureRows, Questions, Scatter, Section, Table
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.rules import Given
from notbugs.experiments.running import TIMES, Machine, run
from notbugs.report import write_report
from notbugs.report.figures.kinds import Drawn
from notbugs.report.reading import read_pictures, read_results
from notbugs.store import AnyStage, SilentObserver, Store

LONG = ("autoencoders", "carlini2016", "discussion2019", "engstrom2019", "ilyas2019", "kurakin2016",
        "sparse-codes", "szegedy2013", "transferability")  # fmt: skip
"""Papers whose second smoke run takes many seconds."""


class Counting(SilentObserver):
    """Counts the stages that are made, and stops the run before one of them."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.made, self.stop_before = 0, stop_before

    def started(self, stage: AnyStage) -> None:
        if self.made == self.stop_before:
            raise KeyboardInterrupt
        self.made += 1


def smoke(paper: Experiment[Any], folder: Path, observer: SilentObserver) -> dict[str, Any]:
    config = paper.settings("digits", "smoke")
    store = Store(folder / "store")
    return run(paper, config, store, out=folder, machine=Machine(), observer=observer)


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in TIMES}


NAMES = sorted({**PAPERS, tiny_paper.EXPERIMENT.name: None})


@pytest.fixture(
    scope="module",
    params=NAMES,
)
def paper(request: pytest.FixtureRequest) -> Iterator[Experiment[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PAPERS, tiny_paper.EXPERIMENT.name, tiny_paper.EXPERIMENT)
        yield PAPERS[request.param]


@pytest.fixture(scope="module")
def finished(
    paper: Experiment[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], int]:
    """A run that was stopped on its way, twice or four times."""
    folder, made = tmp_path_factory.mktemp(paper.name), 0
    for stop in (0, 1) if paper is tiny_paper.EXPERIMENT else (0, 3, 5, 6):
        counting = Counting(stop)
        with pytest.raises(KeyboardInterrupt):
            smoke(paper, folder, counting)
        made += counting.made
    counting = Counting()
    return folder, smoke(paper, folder, counting), made + counting.made


def check_stopped(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int], folder: Path
) -> None:
    _, result, made = finished
    counting = Counting()
    assert numbers_of(smoke(paper, folder, counting)) == numbers_of(result)
    assert counting.made == made


def test_stopped_runs_end_with_the_numbers_of_one_that_was_not(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    if paper.name in LONG:
        pytest.skip("runs at length: make slow")
    check_stopped(paper, finished, tmp_path)


@pytest.mark.slow
def test_stopped_runs_of_long_papers_do_as_well(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    if paper.name in LONG:
        check_stopped(paper, finished, tmp_path)


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
    for claim in paper.claims(paper.settings("digits", "smoke")):
        conditions = [need.rule for need in claim.needs if isinstance(need, Given)]
        for rule in (claim.rule, *conditions):
            for cell in rule.cells:
                assert numbers.values(cell), f"{claim.id}: {cell}"


def test_more_images_than_there_are_are_refused(paper: Experiment[Any], tmp_path: Path) -> None:
    config = paper.settings("digits", "smoke")
    if not hasattr(config, "count"):
        pytest.skip("no setting of this name")
    counting = Counting()
    with pytest.raises(ValueError, match=r"`count` must be at most the \d+ test images; got 10000"):
        run(
            paper,
            replace(config, count=10_000),
            Store(tmp_path / "store"),
            out=tmp_path,
            machine=Machine(),
            observer=counting,
        )
    assert counting.made == 0


def test_claims_have_sources_and_names_of_their_own(paper: Experiment[Any]) -> None:
    claims = paper.claims(paper.settings("digits", "smoke"))
    ids = [claim.id for claim in claims]
    assert len(set(ids)) == len(ids)
    for i, claim in enumerate(claims):
        assert {need for need in claim.needs if isinstance(need, str)} <= set(ids[:i])
        assert all(need.text for need in claim.needs if isinstance(need, Given))
        place = r"table \d|section [\d\"]|figure \d|comment of [A-Z]|not published"
        assert re.search(place, claim.published), claim.id
        if re.search(r"[<>]= [\d.]", claim.rule.text):
            assert claim.fixed, f"{claim.id} does not say from what its bound was fixed"


def test_the_page_shows_every_table_figure_and_claim(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    folder, result, _ = finished
    page = write_report(folder).read_text()
    for claim in result["claims"]:
        assert claim["statement"].replace("'", "&#39;") in page
    shown = {t.table for section in paper.sections for t in tables_of(section)}
    # Points by a number, such as one a unit, are shown as a cloud alone.
    shown |= {f.table for s in paper.sections for f in s.figures if isinstance(f, Scatter)}
    assert set(result["tables"]) <= shown
    numbers, pictures = Numbers(result["tables"]), read_pictures(folder)
    drawn = Drawn(numbers, pictures, paper.columns)
    for i, section in enumerate(paper.sections):
        tables = {table.table for table in tables_of(section)}
        if tables and not tables & set(result["tables"]):  # of another dataset
            assert not any(drawn.has(figure) for figure in section.figures)
            assert section.title not in page
            continue
        assert section.title in page
        for j, figure in enumerate(section.figures):
            assert drawn.has(figure)
            for suffix in ("png", "svg"):
                assert (folder / "figures" / f"figure-{i + 1}-{j + 1}.{suffix}").stat().st_size
            if not isinstance(figure, Curves | PictureRows):
                row = next(iter(result["tables"][figure.table]))
                columns = getattr(figure, "columns", None) or numbers.columns(figure.table)
                assert any(numbers.values(Cell(figure.table, row, c)) for c in columns)
    assert "undecided at 1 seed" in page
    assert "verdicts say nothing" in page


def tables_of(section: Section) -> list[Table]:
    return [table for table in section.tables if isinstance(table, Table)]


def test_every_number_that_a_question_asks_for_is_of_a_row(paper: Experiment[Any]) -> None:
    preset = "laptop" if "laptop" in paper.presets else paper.presets[0]
    rows = [
        row
        for data in ("digits", "photographs")
        if data in paper.datasets
        for row in paper.rows(paper.settings(data, preset), 0)
    ]
    planned = {(row.table, row.name) for row in rows if isinstance(row, Row)}
    for section in paper.sections:
        for table in (t for t in section.tables if isinstance(t, Questions)):
            for cell in (cell for question in table.questions for cell in question.cells):
                assert cell.column in paper.columns
                assert (cell.table, cell.row) in planned, cell


def test_every_column_is_described(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    numbers = Numbers(finished[1]["tables"])
    for table, rows in finished[1]["tables"].items():
        assert set(numbers.columns(table)) <= set(paper.columns)
        for row in rows.values():
            bounded = {c.removesuffix(UPPER_BOUND) for c in row if c.endswith(UPPER_BOUND)}
            assert bounded <= set(numbers.columns(table))


def test_stages_survive_pickling_with_their_keys(paper: Experiment[Any]) -> None:
    for row in paper.rows(paper.settings("digits", "smoke"), 0):
        again = pickle.loads(pickle.dumps(row.stage))
        assert (again.key, again.kind, again.label) == (
            row.stage.key,
            row.stage.kind,
            row.stage.label,
        )


TEXTS = ("steepest", "l2", "l1", "l2:0.125", "bf16", "constant", "step", "mlp")
"""Values of settings that are text, one of which each takes."""


def changed(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one leaf changed, for every leaf, with the leaf's place.

    Of a leaf that takes few values there are several changes, of which some may be refused.
    """
    if is_dataclass(value):
        for field in fields(value):
            for place, other in changed(getattr(value, field.name)):
                with suppress(Exception):  # it is refused
                    yield f".{field.name}{place}", replace(value, **{field.name: other})
    elif isinstance(value, tuple):
        alike = len({type(item) for item in value}) == 1 and not isinstance(value[0], tuple)
        for i, item in enumerate(value):
            if alike:
                yield f"[{i}]", (*value[:i], *value[i + 1 :])
            for place, other in changed(item):
                yield f"[{i}]{place}", (*value[:i], other, *value[i + 1 :])
    elif isinstance(value, bool):
        yield "", not value
    elif isinstance(value, int):
        yield from (("", value + n) for n in (1, -1))
    elif isinstance(value, float):
        yield from (("", x) for x in (value * 0.75, value + 0.25))
    elif isinstance(value, str):
        yield from (("", text) for text in (*TEXTS, f"{value}x") if text != value)
    elif value is None:
        yield from (("", other) for other in (1, 0.5, "l2:0.125"))


def field_of(place: str) -> str:
    """The field of the settings in which a leaf is."""
    return re.split(r"[.\[]", place)[1]


def test_every_changed_setting_changes_some_key(paper: Experiment[Any]) -> None:
    config = paper.settings("digits", "smoke")

    def keys(config: Any) -> set[str]:
        rows = [row.stage.key for row in paper.rows(config, 0)]
        return {*rows, *(stage.key for stage in paper.pictures(config))}

    bases = [config]
    if hasattr(config, "inversion_rule"):  # the length of a step belongs to the other rule
        bases.append(replace(config, inversion_rule="steepest"))
    unused = {"preset", "seeds"}  # what a run is made of, not a number's setting
    found, missed = set[str](), set[str]()
    for base, known in ((base, keys(base)) for base in bases):
        for place, other in changed(base):
            if place not in found and field_of(place) not in unused and other != base:
                with suppress(ValueError):  # refused by a stage
                    (missed if keys(other) == known else found).add(place)
    assert not missed - found
    assert {field_of(place) for place in found} | unused == {f.name for f in fields(config)}
    assert keys(replace(config, preset="laptop", seeds=9)) == keys(config)


def test_the_seed_changes_every_key(paper: Experiment[Any]) -> None:
    config = paper.settings("digits", "smoke")
    first, second = ({row.stage.key for row in paper.rows(config, seed)} for seed in (0, 1))
    assert not first & second


def test_what_a_run_leaves_is_listed_and_read_again(
    paper: Experiment[Any], finished: tuple[Path, dict[str, Any], int]
) -> None:
    folder, result, _ = finished
    assert numbers_of(read_results(folder)) == json.loads(json.dumps(numbers_of(result)))
    config = paper.settings("digits", "smoke")
    assert bool(read_pictures(folder)) == bool(paper.pictures(config))
    files = paper.files(config)
    assert all((folder / name).stat().st_size for name in files)
    listed = json.loads((folder / "notbugs-files.json").read_text())
    assert sorted(listed) == sorted(["results.json", "pictures.safetensors", *files])


def test_results_of_another_paper_are_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(tmp_path)
