"""Writes the output folder of a run: results.json, models, datasets, pictures."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import notbugs
from notbugs.core.errors import DataError, StoreError
from notbugs.core.schema import read_json_file
from notbugs.data.writing import write_errors, write_file, write_json
from notbugs.engine import Threat
from notbugs.experiments.claims import Claim
from notbugs.experiments.claims import row as claim_row
from notbugs.experiments.config import Config
from notbugs.experiments.experiment import PICTURES
from notbugs.experiments.plan import Plan, TrainedSet
from notbugs.experiments.stages import DATASET, MODEL
from notbugs.experiments.tables import collect
from notbugs.store import RunSummary, Stage, Store


def write_results(
    config: Config,
    plan: Plan,
    store: Store,
    summary: RunSummary,
    claims: Sequence[Claim],
    out: Path,
) -> dict[str, Any]:
    """Writes everything of a finished run to `out` and returns the content of results.json."""
    numbers = collect(plan.rows, store, len(plan.classes))
    result: dict[str, Any] = {
        "experiment": "ilyas2019",
        "dataset": plan.title,
        "preset": config.preset,
        "conditions": _conditions(config, plan),
        **common_results(claims, numbers, config.seeds, numbers.tables(), summary),
    }
    _write_files(plan, store, out)
    write_json(out / RESULTS, result)
    return result


def common_results(
    claims: Sequence[Claim],
    numbers: Any,
    seeds: int,
    tables: Mapping[str, Any],
    summary: RunSummary,
) -> dict[str, Any]:
    """The common part of every results.json: claims with verdicts, tables, times, versions."""
    verdicts = [claim_row(claim, numbers, seeds) for claim in claims]
    return {
        "claims": [verdict for verdict in verdicts if verdict is not None],
        "tables": tables,
        "seconds": summary.seconds_worked,
        "seconds_total": summary.seconds_worked + summary.seconds_from_store,
        "seconds_wall": summary.seconds_wall,
        "versions": versions(),
    }


def _conditions(config: Config, plan: Plan) -> Mapping[str, Any]:
    return {
        "data": config.data,
        "data_digest": plan.digest,
        "images": dict(plan.images),
        "classes": list(plan.classes),
        "threat_eval": str(Threat.parse(f"{config.norm}:{config.eps_eval!r}")),
        "evaluation": f"PGD-{config.eval_steps}, untargeted, step eps/5, random start, one "
        "restart, original test set",
        "config": asdict(config),
    }


FILE_LIST = "notbugs-files.json"
"""The file that lists the files a run has written."""
RESULTS = "results.json"
SAMPLES = "samples.safetensors"


def versions() -> dict[str, str]:
    """Versions and machine that the numbers were computed with."""
    return {
        "notbugs": notbugs.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _write_files(plan: Plan, store: Store, out: Path) -> None:
    """Copies models and datasets to `out` under readable names.

    Files of an earlier run with other settings are removed, by the list that it kept; all
    other files are left alone.
    """
    replace_files(out, file_names(plan))
    for row in plan.rows:
        copy_from_store(store, row.model, MODEL, out / "models" / f"{_model_name(row)}.safetensors")
        if row.data is not None:
            copy_from_store(
                store, row.data, DATASET, out / "datasets" / f"{row.file_name}.safetensors"
            )
    copy_from_store(store, plan.samples, SAMPLES, out / SAMPLES)


def check_files(out: Path, wanted: Sequence[str]) -> None:
    """Refuses to overwrite a file in `out` that no run has listed.

    **Raises** StoreError.
    """
    listed = _files_of_earlier_run(out)
    for path in (out / name for name in wanted):
        if os.path.lexists(path) and path not in listed:
            raise StoreError(
                f"'{path}' was not written by this run, but has the name of one of its files. "
                "Move it elsewhere, or choose another folder with --out."
            )


def replace_files(out: Path, wanted: Sequence[str]) -> None:
    """Removes the files of an earlier run in `out` that are not `wanted`, and lists `wanted`.

    **Raises** StoreError where `out` holds a file of a wanted name that no run has listed.
    """
    check_files(out, wanted)
    out.mkdir(parents=True, exist_ok=True)
    for old in set(_files_of_earlier_run(out)) - {out / name for name in wanted}:
        old.unlink(missing_ok=True)
    write_json(out / FILE_LIST, sorted(wanted))


def file_names(plan: Plan) -> list[str]:
    """The names of all files of a run in the output folder, except those of its page."""
    models = [f"models/{_model_name(row)}.safetensors" for row in plan.rows]
    sets = [row.file_name for row in plan.rows if row.data is not None]
    return [*models, *(f"datasets/{name}.safetensors" for name in sets), SAMPLES, RESULTS]


def _model_name(row: TrainedSet) -> str:
    fixed = {"D": "standard", "D_adv": "robust"}
    return f"{fixed[row.set]}-seed{row.seed}" if row.set in fixed else f"student-{row.file_name}"


def _files_of_earlier_run(out: Path) -> list[Path]:
    """The files that an earlier run listed, restricted to names that a run can write."""
    try:
        file_names = read_json_file(list[str], out / FILE_LIST, remedy="")
    except DataError:
        return []
    places = [out / name for name in file_names]
    allowed = {out / "models", out / "datasets", out / "priors"}
    ours = [p for p in places if p.parent in allowed and p.suffix == ".safetensors"]
    return ours + [out / name for name in (RESULTS, SAMPLES, PICTURES)]  # every run's


def copy_from_store(store: Store, stage: Stage, name: str, target: Path) -> None:
    """Copies a file of a stage's result to `target`, unless the copy exists.

    **Raises** StoreError where `target` cannot be written.
    """
    source = store.get(stage.kind, stage.key).path / name
    if _is_copy(target, source):
        return
    with source.open("rb") as content:
        write_file(target, lambda file: shutil.copyfileobj(content, file))
    with write_errors(target):
        shutil.copystat(source, target)  # `_is_copy` compares the time


def _is_copy(target: Path, source: Path) -> bool:
    """Whether `target` is a separate file with the size and time of `source`."""
    if not target.is_file() or target.samefile(source):  # a link would change with the other
        return False
    copy, original = target.stat(), source.stat()
    return (copy.st_size, copy.st_mtime_ns) == (original.st_size, original.st_mtime_ns)
