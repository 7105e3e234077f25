import json
import math
from pathlib import Path

import numpy as np
import pytest

from notbugs.core.errors import DataError
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.report import write_report
from notbugs.report.reading import read_pictures, read_results
from report.made_run import Made, make_result, make_run, write_results


def test_a_run_is_read_as_it_was_written(run_folder, run) -> None:
    assert read_results(run_folder) == make_result(Made())
    assert run.results["dataset"] == "Synthetic digits"
    assert len(run.drawn.classes) == 10
    numbers, pictures = run.drawn.numbers, run.drawn.pictures
    assert numbers.mean(Cell("robust", "D", "chance")) == 10.0
    assert (run.drawn.settings["norm"], run.drawn.settings["eps_eval"]) == ("L2", "1")
    assert pictures["D.images"].shape == (8, 1, 8, 8)
    assert pictures["D.images"].dtype == np.float32
    cell = Cell("robust", "D_R", "clean")
    assert numbers.mean(cell) == pytest.approx(93.7)
    assert numbers.spread(cell) == pytest.approx(93.7 * 0.03)
    assert numbers.mean(Cell("robust", "D_R", "source_success")) is None


def test_pictures_are_optional(tmp_path: Path) -> None:
    assert read_pictures(make_run(tmp_path, Made(pictures=False))) == {}


def test_what_is_not_a_finite_number_does_not_apply(tmp_path: Path) -> None:
    cell = Cell("sets", "D", "clean")
    for value in (math.nan, math.inf, None):
        numbers = Numbers({"sets": {"D": {"clean": [value, 50.0]}}})
        assert numbers.mean(cell) == 50.0
        assert numbers.spread(cell) is None
        assert numbers.values(cell) == ()
    write_results(tmp_path, make_result(Made()) | {"tables": {"sets": {"D": {"clean": [True]}}}})
    with pytest.raises(DataError, match=r"/tables/sets/D/clean/0: expected .*, got true"):
        read_results(tmp_path)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*folder that `notbugs reproduce` wrote"):
        read_results(tmp_path)


def test_damaged_results(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"experiment": ')
    with pytest.raises(DataError, match=r"results.json' is damaged"):
        read_results(tmp_path)


def without(name: str) -> dict:
    """Results whose settings lack one of that name."""
    result = make_result(Made())
    del result["conditions"]["config"][name]
    return result


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        ([1, 2], "/: expected an object, got a list of 2"),
        ({"experiment": "other"}, "/claims: expected a list, got nothing"),
        (make_result(Made()) | {"tables": []}, "/tables: expected an object, got a list of 0"),
        (make_result(Made()) | {"tables": {"sets": []}}, "/tables/sets: expected an object"),
        (make_result(Made()) | {"dataset": 5}, "/dataset: expected text, got 5"),
        (without("seeds"), "/conditions/config/seeds: expected an integer, got nothing"),
        (without("digest"), "/conditions/config/digest: expected text, got nothing"),
    ],
)
def test_results_of_somebody_else(tmp_path: Path, content, lacks) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"results.json' is damaged: {lacks}.*Name the folder"):
        read_results(tmp_path)


@pytest.mark.parametrize("tables", [{}, {"sets": {}}])
def test_results_without_rows(tmp_path: Path, tables) -> None:
    write_results(tmp_path, make_result(Made()) | {"tables": tables})
    with pytest.raises(DataError, match=r"/tables\S*: expected some, got none"):
        read_results(tmp_path)


def test_damaged_pictures(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "pictures.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(DataError, match=r"pictures.safetensors' is damaged"):
        read_pictures(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("conditions", "images"), {}, "/conditions/images"),
        (("conditions", "shape"), [], "/conditions/shape"),
        (("versions",), {}, "/versions/notbugs"),
        (("tables",), {"of another paper": {"row": {"x": [1.0]}}}, "hold no table of ilyas2019"),
        (("conditions", "config"), {"seeds": 1, "digest": ""}, "lack the setting 'eps_headline'"),
    ],
)
def test_damage_that_a_page_would_meet_is_named(run_folder, tmp_path, place, value, said) -> None:
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    inner = results
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match=said):
        write_report(tmp_path)


def test_rows_that_end_in_no_number_are_no_points(run_folder, tmp_path) -> None:
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    rows = results["tables"]["sets"]
    rows["D_det at night"] = rows["D_det"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert "D_det at night" in write_report(tmp_path).read_text(encoding="utf-8")
