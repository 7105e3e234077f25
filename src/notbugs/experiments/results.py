"""Writes what a run leaves behind: results.json, models, datasets, pictures."""

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
from notbugs.data.writing import refusals, write_file, write_json
from notbugs.engine import Threat
from notbugs.experiments.claims import Claim
from notbugs.experiments.claims import row as claim_row
from notbugs.experiments.config import Config
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
        **found_by(claims, numbers, config.seeds, numbers.tables(), summary),
    }
    _lay_out(plan, store, out)
    write_json(out / RESULTS, result)
    return result


def found_by(
    claims: Sequence[Claim],
    numbers: Any,
    seeds: int,
    tables: Mapping[str, Any],
    summary: RunSummary,
) -> dict[str, Any]:
    """What every results.json ends with: claims with verdicts, tables, times and versions."""
    verdicts = [claim_row(claim, numbers, seeds) for claim in claims]
    return {
        "claims": [verdict for verdict in verdicts if verdict is not None],
        "tables": tables,
        "seconds": summary.seconds_worked,
        "seconds_total": summary.seconds_worked + summary.seconds_from_store,
        "seconds_wall": summary.seconds_wall,
        "versions": _versions(),
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


LIST = "notbugs-files.json"
"""The files that a run has laid out."""
RESULTS = "results.json"
SAMPLES = "samples.safetensors"
PICTURES = "pictures.safetensors"


def _versions() -> dict[str, str]:
    """What the numbers were computed with."""
    return {
        "notbugs": notbugs.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _lay_out(plan: Plan, store: Store, out: Path) -> None:
    """Puts copies of models and datasets under readable names.

    What an earlier run with other settings left there would not belong to these results
    and goes, by the list that it kept; every other file is somebody else's and stays.
    """
    claim_files(out, names(plan))
    for row in plan.rows:
        place(store, row.model, MODEL, out / "models" / f"{_model_name(row)}.safetensors")
        if row.data is not None:
            place(store, row.data, DATASET, out / "datasets" / f"{row.file_name}.safetensors")
    place(store, plan.samples, SAMPLES, out / SAMPLES)


def check_files(out: Path, wanted: Sequence[str]) -> None:
    """Refuses to write over a file of a wanted name in `out` that no run listed as its own.

    **Raises** StoreError.
    """
    listed = _listed(out)
    for path in (out / name for name in wanted):
        if os.path.lexists(path) and path not in listed:
            raise StoreError(
                f"'{path}' is not one that this run put there, but has the name of one. Move it "
                "elsewhere, or choose another folder with --out."
            )


def claim_files(out: Path, wanted: Sequence[str]) -> None:
    """Removes what an earlier run listed as its own in `out` and is not `wanted`; lists that.

    **Raises** StoreError where a file of a wanted name is there that no run listed.
    """
    check_files(out, wanted)
    out.mkdir(parents=True, exist_ok=True)
    for old in set(_listed(out)) - {out / name for name in wanted}:
        old.unlink(missing_ok=True)
    write_json(out / LIST, sorted(wanted))


def names(plan: Plan) -> list[str]:
    """The names, within the output folder, of every file of a run but its page's."""
    models = [f"models/{_model_name(row)}.safetensors" for row in plan.rows]
    sets = [row.file_name for row in plan.rows if row.data is not None]
    return [*models, *(f"datasets/{name}.safetensors" for name in sets), SAMPLES, RESULTS]


def _model_name(row: TrainedSet) -> str:
    fixed = {"D": "standard", "D_adv": "robust"}
    return f"{fixed[row.set]}-seed{row.seed}" if row.set in fixed else f"student-{row.file_name}"


def _listed(out: Path) -> list[Path]:
    """The files an earlier run says it put there; none that has no name of ours."""
    try:
        names = read_json_file(list[str], out / LIST, remedy="")
    except DataError:
        return []
    places = [out / name for name in names]
    allowed = {out / "models", out / "datasets", out / "priors"}
    ours = [p for p in places if p.parent in allowed and p.suffix == ".safetensors"]
    return ours + [out / name for name in (RESULTS, SAMPLES, PICTURES)]  # every run's


def place(store: Store, stage: Stage, name: str, target: Path) -> None:
    """Puts a copy of a file of a stage's result at `target`, where there is none already.

    **Raises** StoreError where `target` cannot be written.
    """
    source = store.get(stage.kind, stage.key).path / name
    if _is_copy(target, source):
        return
    with source.open("rb") as content:
        write_file(target, lambda file: shutil.copyfileobj(content, file))
    with refusals(target):
        shutil.copystat(source, target)  # by its time it is known as a copy


def _is_copy(target: Path, source: Path) -> bool:
    """Whether it is another file, of the same size and time."""
    if not target.is_file() or target.samefile(source):  # a link would change with the other
        return False
    ours, theirs = target.stat(), source.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
