import json
from pathlib import Path

import numpy as np
import pytest

from notbugs.core.errors import DataError
from notbugs.report.reading import read_result, read_run, set_row
from report.made_run import Made, make_result, make_run


def test_a_run_is_read_as_it_was_written(run_folder) -> None:
    run = read_run(run_folder)
    assert run.title == "Synthetic digits"
    assert len(run.classes) == 10
    assert run.chance == 10.0
    assert (run.norm, run.eps_eval) == ("l2", 1.0)
    assert run.samples["D.images"].shape == (8, 1, 8, 8)
    assert run.samples["D.images"].dtype == np.float32
    row = next(r for r in run.sets if r.name == "D_R")
    assert row.mean("clean") == 93.7
    assert row.std("clean") == pytest.approx(93.7 * 0.03)
    assert row.mean("source_success") is None
    assert "clean_std" not in row.columns


def test_curves_grow_and_the_table_keeps_the_largest_radius(run_folder) -> None:
    run = read_run(run_folder)
    assert [r.eps for r in run.curve("D_det")] == [0.5, 1.0, 2.0]
    largest = run.at_largest()
    assert [r.name for r in largest][:4] == ["D", "D_adv", "D_R", "D_NR"]
    assert {r.eps for r in largest if r.name.endswith("_other")} == {2.0}


def test_pictures_are_optional(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path, Made(samples=False))).samples == {}


def test_what_is_not_a_finite_number_does_not_apply() -> None:
    row = set_row({"set": "D", "eps": None, "clean": float("nan"), "shifted": True, "seeds": 2})
    assert row.mean("clean") is None
    assert row.mean("shifted") is None


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*folder that `notbugs reproduce` wrote"):
        read_run(tmp_path)


def test_damaged_results(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"experiment": ')
    with pytest.raises(DataError, match=r"results.json' is damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        ([1, 2], "/: expected an object, got a list of 2"),
        ({"experiment": "other"}, "/claims: expected a list, got nothing"),
        (make_result(Made()) | {"tables": []}, "/tables: expected an object, got a list of 0"),
        (make_result(Made()) | {"tables": {}}, "/tables/sets: expected a list, got nothing"),
        (make_result(Made()) | {"dataset": 5}, "/dataset: expected text, got 5"),
    ],
)
def test_results_of_somebody_else(tmp_path: Path, content, lacks) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"results.json' is damaged: {lacks}. Name the folder"):
        read_result(path)


def test_results_without_rows_or_names_of_sets(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    result = make_result(Made())
    path.write_text(json.dumps(result | {"tables": {"sets": []}}))
    with pytest.raises(DataError, match=r"/tables/sets: expected some, got none"):
        read_result(path)
    path.write_text(json.dumps(result | {"tables": {"sets": [{"clean": 1.0}]}}))
    with pytest.raises(DataError, match=r"/tables/sets/0/set: expected text, got nothing"):
        read_result(path)


def test_damaged_pictures(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "samples.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(DataError, match=r"samples.safetensors' is damaged"):
        read_run(tmp_path)
