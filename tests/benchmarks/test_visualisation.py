"""The table of the visualisations' benchmark."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import visualisation

from notbugs.representations import Assessment


def test_a_row_is_the_mean_of_its_images_and_is_written() -> None:
    found = Assessment(
        activation=torch.arange(4.0),
        relative=torch.tensor([0.5, 1.5, 9.0, 9.0]),
        rank=torch.tensor([1, 4, 7, 7]),
        distance=torch.tensor([0.2, 0.4, 0.6, 0.6]),
        nearest=torch.zeros(4, dtype=torch.int64),
    )
    row = visualisation.summary(found, slice(0, 2))
    assert (row["relative"], row["known"], row["median_rank"]) == (1.0, 0.5, 2.5)
    assert row["each"]["rank"] == [1, 4]
    table = {
        "MaCo": row,
        "real views": visualisation.summary(found, slice(2, 4)) | {"of_others": 0.8},
    }
    at = {"processor": "one", "threads": 1, "commit": "abc", "date": "2026-01-01"}
    text = visualisation.written(
        {"conditions": at, "classes": {1: "a", 2: "b"}, "steps": 3, "views": 70, "table": table}
    )
    assert "| MaCo | 1.00 | 50 % | 2.5 | 0.30 |" in text
    assert "| real views | 9.00 | 0 % | 7 | 0.60 |" in text
    assert "alone a real view has 0.80." in text
