"""Reads the numbers of the experiment on representations and writes its output folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from notbugs.core.schema import REST, read_json_file
from notbugs.data import safefile
from notbugs.data.writing import write_json
from notbugs.experiments.claims import Claim, mean, spread
from notbugs.experiments.engstrom.graph import Graph
from notbugs.experiments.engstrom.settings import EngstromConfig
from notbugs.experiments.engstrom.stage_io import NUMBERS, PICTURES, PRIOR
from notbugs.experiments.results import PICTURES as SAMPLES
from notbugs.experiments.results import RESULTS, common_results, copy_from_store, replace_files
from notbugs.experiments.stages import DAMAGED, MODEL
from notbugs.store import RunSummary, Stage, Store


@dataclass(frozen=True)
class MeasuredRow:
    """A row of one seed's table, as a measurement wrote it; null is a non-finite number."""

    row: str
    numbers: dict[str, float | None] = field(default_factory=dict[str, float | None], metadata=REST)


@dataclass(frozen=True)
class SeedNumbers:
    """All numbers of a run: table -> row -> column -> one value per seed."""

    tables: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]

    def seeds(self, table: str, row: str, column: str) -> list[float]:
        """The values of a column, one per seed; empty if it is missing or a value is not finite."""
        values = list(self.tables.get(table, {}).get(row, {}).get(column, ()))
        return values if all(math.isfinite(v) for v in values) else []

    def as_tables(self) -> dict[str, list[dict[str, object]]]:
        """The tables of results.json: mean and `_std` over seeds of every column."""
        return {
            name: [{"row": row} | _over_seeds(columns) for row, columns in rows.items()]
            for name, rows in self.tables.items()
        }


def collect(graph: Graph, store: Store) -> SeedNumbers:
    """Reads the tables that the measurements wrote."""
    tables: dict[str, dict[str, dict[str, list[float]]]] = {}
    for measurements in graph.measurements:
        for stage in measurements.values():
            path = store.get(stage.kind, stage.key).path / NUMBERS
            content = read_json_file(dict[str, list[MeasuredRow]], path, remedy=DAMAGED)
            for table, rows in content.items():
                for row in rows:
                    columns = tables.setdefault(table, {}).setdefault(row.row, {})
                    for column, value in row.numbers.items():
                        columns.setdefault(column, []).append(math.nan if value is None else value)
    return SeedNumbers(tables)


def write_outcome(
    settings: EngstromConfig,
    graph: Graph,
    store: Store,
    summary: RunSummary,
    claims: Sequence[Claim],
    out: Path,
) -> dict[str, Any]:
    """Writes results, pictures and models of a finished run; returns results.json's content."""
    numbers = collect(graph, store)
    result: dict[str, Any] = {
        "experiment": "engstrom2019",
        "dataset": graph.title,
        "preset": settings.preset,
        "conditions": {
            "data": settings.data,
            "data_digest": graph.digest,
            "images": dict(graph.images),
            "classes": list(graph.classes),
            "config": asdict(settings),
        },
        **common_results(claims, numbers, settings.seeds, numbers.as_tables(), summary),
    }
    _write_files(graph, store, out)
    write_json(out / RESULTS, result)
    return result


def files_of(graph: Graph) -> dict[str, tuple[Stage, str]]:
    """The models and priors of a run: name in the output folder -> (stage, file of its result)."""
    files: dict[str, tuple[Stage, str]] = {}
    for folder, stages, inner in (("models", graph.models, MODEL), ("priors", graph.priors, PRIOR)):
        for seed, of_seed in enumerate(stages):
            for name, stage in of_seed.items():
                files[f"{folder}/{name}-seed{seed}.safetensors"] = (stage, inner)
    return files


def file_names(graph: Graph) -> list[str]:
    """The names of all files of a run in the output folder, except those of its page."""
    return [*files_of(graph), SAMPLES, RESULTS]


def _write_files(graph: Graph, store: Store, out: Path) -> None:
    files = files_of(graph)
    replace_files(out, file_names(graph))
    for name, (stage, inner) in files.items():
        copy_from_store(store, stage, inner, out / name)
    pictures: dict[str, torch.Tensor] = {}
    for name, stage in graph.measurements[0].items():
        tensors, _ = safefile.read_tensors(
            store.get(stage.kind, stage.key).path / PICTURES, what="data"
        )
        pictures |= {f"{name}/{k}": v for k, v in tensors.items()}
    safefile.write_tensors(out / SAMPLES, pictures, {})


def _over_seeds(columns: Mapping[str, Sequence[float]]) -> dict[str, object]:
    columns_over_seeds: dict[str, object] = {}
    count = 0
    for name, values in columns.items():
        finite = [v for v in values if math.isfinite(v)]
        columns_over_seeds[name] = mean(finite) if finite else None
        columns_over_seeds[f"{name}_std"] = spread(finite) if finite else None
        count = max(count, len(values))
    return columns_over_seeds | {"seeds": count}
