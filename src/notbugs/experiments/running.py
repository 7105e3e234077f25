"""Runs a paper's experiment: plans its stages, computes them, decides the claims, writes it all."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json_file
from notbugs.core.strict_json import to_json
from notbugs.data import load_source
from notbugs.data.writing import write_json
from notbugs.experiments.experiment import (
    C,
    Experiment,
    PaperConfig,
    Row,
    Rows,
    Work,
    as_json,
    load_pictures,
    save_pictures,
)
from notbugs.experiments.numbers import Numbers, mean, spread
from notbugs.experiments.results import (
    PICTURES,
    RESULTS,
    check_files,
    copy_from_store,
    replace_files,
    versions,
)
from notbugs.experiments.rules import Claim, Decision, decided
from notbugs.experiments.shared import Data, digest_of
from notbugs.store import AnyStage, Observer, RunSummary, Store, run_stages

TIMES = ("seconds", "seconds_total", "seconds_wall")
"""What two runs of the same results differ in."""


@dataclass(frozen=True)
class Machine:
    """Where and how a run works; none of it changes a result but by rounding.

    - `workers`: processes, 0 for this one; `threads`: torch threads of each, which round sums
      differently
    """

    device: str = "cpu"
    data_dir: str | None = None
    workers: int = 0
    threads: int = 1


def run(
    experiment: Experiment[C],
    config: C,
    store: Store,
    *,
    out: Path,
    machine: Machine,
    observer: Observer,
    command: str = "",
) -> dict[str, Any]:
    """Runs the experiment, writes `results.json` and pictures to `out`, and returns the results.

    Stages that the store holds are not computed again; a run that is killed at any moment can be
    resumed and ends with the same numbers. A `results.json` from which these differ in nothing but
    times is left as it is, with the times of the run that computed them.

    - `command`: that repeats the run, for the report
    """
    folder = None if machine.data_dir is None else Path(machine.data_dir)
    source = load_source(config.data, folder)
    digests = {
        field: digest_of(source if name == config.data else load_source(name, folder))
        for field, name in config.digested.items()
    }
    config = replace(config, **digests)
    work = Work(out, store, machine.device, machine.data_dir)
    for seed in range(config.seeds):
        parts = Data.of(config, seed).splits(work)
        _check_count(config, len(parts.test))
        if experiment.check is not None:
            experiment.check(config, parts)
    check_files(out, [RESULTS, PICTURES, *experiment.files(config)])

    on_gpu = machine.device != "cpu" and machine.workers == 0

    def computed(stages: Iterable[AnyStage]) -> RunSummary:
        return run_stages(
            list(stages),
            store,
            workers=machine.workers,
            # On a GPU the processor's threads change no sum that a result depends on.
            threads=torch.get_num_threads() if on_gpu else machine.threads,
            observer=observer,
            settings={"device": machine.device, "data_dir": machine.data_dir},
        )

    choices = experiment.choices(config)
    summaries = [computed(choices.values())] if choices else []
    config = replace(config, **{name: work.load(stage) for name, stage in choices.items()})
    rows = [row for seed in range(config.seeds) for row in experiment.rows(config, seed)]
    pictures, files = experiment.pictures(config), experiment.files(config)
    written = [RESULTS, PICTURES, *files]
    stages = [*(row.stage for row in rows), *pictures, *(stage for stage, _ in files.values())]
    summaries.append(computed(stages))
    numbers = collected(rows, work, config.seeds)
    parts = Data.of(config, 0).splits(work)
    folders = [store.get(stage.kind, stage.key).path for stage in pictures]
    shown = {name: x for folder in folders for name, x in load_pictures(folder).items()}
    replace_files(out, written)
    for name, (stage, file) in files.items():
        copy_from_store(store, stage, file, out / name)
    save_pictures(shown, work)
    results = {
        "experiment": experiment.name,
        "dataset": source.title,
        "preset": config.preset,
        "command": command,
        "conditions": {
            "images": {n: len(getattr(parts, n)) for n in ("train", "val", "test")},
            "shape": list(source.train.shape),
            "classes": list(source.train.class_names),
            "config": as_json(config, "config"),
        },
        "pictures": hashlib.sha256((out / PICTURES).read_bytes()).hexdigest(),
        **outcome(experiment.claims(config), numbers, config, summaries),
    }
    if not _same(results, out / RESULTS):
        write_json(out / RESULTS, results)
    return results


def _same(results: Mapping[str, Any], path: Path) -> bool:
    """Whether a file holds these results, but for times."""
    try:
        stored = read_json_file(dict[str, Any], path, remedy="")
    except DataError:
        return False
    new = json.loads(to_json(results))
    timed = all(isinstance(stored.get(name), int | float) for name in TIMES)
    return timed and {**stored, **dict.fromkeys(TIMES)} == {**new, **dict.fromkeys(TIMES)}


def collected(rows: Sequence[Row | Rows], work: Work, seeds: int) -> Numbers:
    """The numbers of finished rows."""
    return Numbers.collect(((row.seed, row.read(work)) for row in rows), seeds)


def outcome(
    claims: Sequence[Claim], numbers: Numbers, config: PaperConfig, summaries: Sequence[RunSummary]
) -> dict[str, Any]:
    """Claims with their verdicts, tables, times and versions, as results.json holds them."""
    decisions = decided(claims, numbers)
    last = summaries[-1]  # which finds in the store what the others computed
    return {
        "claims": [_claim(claim, decisions[claim.id], config.seeds) for claim in claims],
        "tables": numbers.tables,
        "seconds": sum(summary.seconds_worked for summary in summaries),
        "seconds_total": last.seconds_worked + last.seconds_from_store,
        "seconds_wall": sum(summary.seconds_wall for summary in summaries),
        "versions": versions(),
    }


def _claim(claim: Claim, decision: Decision, seeds: int) -> Mapping[str, object]:
    ours, control = decision.ours, decision.control
    return {
        "id": claim.id,
        "statement": claim.statement,
        "published": claim.published,
        "ours": None if ours is None else mean(ours),
        "std": None if ours is None else spread(ours),
        "control": None if control is None else mean(control),
        "per_seed": None if ours is None else list(ours),
        "control_per_seed": None if control is None else list(control),
        "rule": claim.rule.text,
        "fixed": claim.fixed,
        "holds": decision.holds,
        "why": decision.why,
        "seeds": seeds,
    }


def _check_count(config: PaperConfig, images: int) -> None:
    """A paper's `count` is of test images: fewer than it says would be measured."""
    count = getattr(config, "count", 0)
    if count > images:
        raise bad_value(
            "count",
            f"be at most the {images} test images",
            count,
            f"Pass --set count={images}, or take more test images.",
        )
