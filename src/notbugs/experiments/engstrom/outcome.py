"""What a run of the experiment on representations leaves behind, and how its numbers are read."""

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
from notbugs.experiments.engstrom.producers import NUMBERS, PICTURES, PRIOR
from notbugs.experiments.engstrom.settings import Looks
from notbugs.experiments.results import PICTURES as SAMPLES
from notbugs.experiments.results import RESULTS, claim_files, found_by, place
from notbugs.experiments.stages import DAMAGED, MODEL
from notbugs.store import RunSummary, Stage, Store


@dataclass(frozen=True)
class Looked:
    """A row of a table of one seed, as a look wrote it; null is a number that is not finite."""

    row: str
    numbers: dict[str, float | None] = field(default_factory=dict[str, float | None], metadata=REST)


@dataclass(frozen=True)
class Seen:
    """All numbers of a run: table -> row -> column -> one value a seed."""

    tables: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]

    def seeds(self, table: str, row: str, column: str) -> list[float]:
        """The values of a column, one a seed; empty where there are none, or one is not finite."""
        found = list(self.tables.get(table, {}).get(row, {}).get(column, ()))
        return found if all(math.isfinite(v) for v in found) else []

    def as_tables(self) -> dict[str, list[dict[str, object]]]:
        """The tables of results.json: mean and `_std` over seeds of every column."""
        return {
            name: [{"row": row} | _over_seeds(columns) for row, columns in rows.items()]
            for name, rows in self.tables.items()
        }


def collect(graph: Graph, store: Store) -> Seen:
    """Reads what the looks wrote."""
    tables: dict[str, dict[str, dict[str, list[float]]]] = {}
    for looks in graph.looks:
        for stage in looks.values():
            path = store.get(stage.kind, stage.key).path / NUMBERS
            found = read_json_file(dict[str, list[Looked]], path, remedy=DAMAGED)
            for table, rows in found.items():
                for row in rows:
                    columns = tables.setdefault(table, {}).setdefault(row.row, {})
                    for column, value in row.numbers.items():
                        columns.setdefault(column, []).append(math.nan if value is None else value)
    return Seen(tables)


def write_outcome(
    settings: Looks,
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
        **found_by(claims, numbers, settings.seeds, numbers.as_tables(), summary),
    }
    _lay_out(graph, store, out)
    write_json(out / RESULTS, result)
    return result


def files_of(graph: Graph) -> dict[str, tuple[Stage, str]]:
    """Models and priors of a run, by their names in the output folder: whose file each is."""
    files: dict[str, tuple[Stage, str]] = {}
    for folder, stages, inner in (("models", graph.models, MODEL), ("priors", graph.priors, PRIOR)):
        for seed, of_seed in enumerate(stages):
            for name, stage in of_seed.items():
                files[f"{folder}/{name}-seed{seed}.safetensors"] = (stage, inner)
    return files


def names_of(graph: Graph) -> list[str]:
    """The names, within the output folder, of every file of a run but its page's."""
    return [*files_of(graph), SAMPLES, RESULTS]


def _lay_out(graph: Graph, store: Store, out: Path) -> None:
    files = files_of(graph)
    claim_files(out, names_of(graph))
    for name, (stage, inner) in files.items():
        place(store, stage, inner, out / name)
    pictures: dict[str, torch.Tensor] = {}
    for name, stage in graph.looks[0].items():
        tensors, _ = safefile.read_tensors(
            store.get(stage.kind, stage.key).path / PICTURES, what="data"
        )
        pictures |= {f"{name}/{k}": v for k, v in tensors.items()}
    safefile.write_tensors(out / SAMPLES, pictures, {})


def _over_seeds(columns: Mapping[str, Sequence[float]]) -> dict[str, object]:
    found: dict[str, object] = {}
    count = 0
    for name, values in columns.items():
        finite = [v for v in values if math.isfinite(v)]
        found[name] = mean(finite) if finite else None
        found[f"{name}_std"] = spread(finite) if finite else None
        count = max(count, len(values))
    return found | {"seeds": count}
