"""The text of the page: facts, conditions, claims, tables and recipes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from notbugs.report.formatting import (
    LONG,
    OPEN,
    any_number,
    base_name,
    cell,
    column_of,
    duration,
    eps_text,
    norm_name,
    number,
    verdict,
    with_spread,
)
from notbugs.report.reading import Run, SetRow

FIRST_CLASSES = 12
PROGRAMS = ("notbugs", "torch", "numpy", "python")
PARTS = ("standard", "robust", "student", "inversion")


def facts(run: Run) -> dict[str, Any]:
    """The values used in the page's sentences."""
    images: Mapping[str, Any] = run.conditions.get("images") or {}
    return {
        "norm": norm_name(run.norm),
        "eps": eps_text(run.norm, run.eps_eval),
        "half": eps_text(run.norm, run.eps_eval / 2),
        "chance": f"{run.chance:.3g}",
        "classes": len(run.classes),
        "seeds": max(r.seeds for r in run.sets),
        "train": _count(images.get("train")),
        "val": _count(images.get("val")),
        "test": _count(images.get("test")),
        "sets": _radii(run),
    }


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _radii(run: Run) -> str:
    radii = sorted({r.eps for r in run.sets if r.eps is not None})
    return ", ".join(eps_text(run.norm, eps) for eps in radii)


def conditions(run: Run) -> dict[str, str]:
    """The conditions as names and values; values that the run does not have are left out."""
    run_facts = facts(run)
    shown = ", ".join(run.classes[:FIRST_CLASSES])
    more = len(run.classes) - FIRST_CLASSES
    rows = {
        "Dataset": f"{run.title} ({run.conditions.get('data', '')})",
        "Images": f"{run_facts['train']} to train, {run_facts['val']} held out, "
        f"{run_facts['test']} to test" + _shape(run),
        "Classes": f"{len(run.classes)}: {shown}" + (f" and {more} more" if more > 0 else ""),
        "Attack": f"{run_facts['norm']}, ε = {run_facts['eps']} and {run_facts['half']} in pixel "
        f"units of [0, 1]; {run.conditions.get('evaluation', '')}",
        "Sets built at": f"ε = {run_facts['sets']}" if run_facts["sets"] else "",
        "Architecture": str(run.config.get("architecture", "")),
        "Seeds": f"{run_facts['seeds']} (each varies split, models, targets and patterns)",
        "Preset": str(run.result.get("preset", "")),
        **machine_and_time(run.result),
    }
    return {name: value for name, value in rows.items() if value}


def machine_and_time(result: Mapping[str, Any]) -> dict[str, str]:
    """The machine, the versions and the time of a run."""
    versions = dict(result.get("versions") or {})
    return {
        "Machine": _machine(versions),
        "Versions": ", ".join(f"{n} {versions[n]}" for n in PROGRAMS if n in versions),
        "Time": _time(result),
    }


def _machine(versions: Mapping[str, Any]) -> str:
    gpu = versions.get("gpu")
    cores = f"{versions['cores']} cores" if "cores" in versions else None
    parts = (versions.get("machine"), cores, "no GPU" if gpu in (None, "none") else gpu)
    return ", ".join(str(part) for part in parts if part)


def _shape(run: Run) -> str:
    images = run.samples.get("D.images")
    if images is None:
        return ""
    _, channels, height, width = images.shape
    return f"; {height} × {width} pixels, {channels} channel{'s' * (channels != 1)}"


def _time(result: Mapping[str, Any]) -> str:
    """The compute time of this run, the total with stored results, and the wall time."""
    if "seconds" not in result:
        return ""
    text = f"{duration(result['seconds'])} of compute in this run"
    if "seconds_total" in result:
        text += f", {duration(result['seconds_total'])} including stored results"
    if "seconds_wall" in result:
        text += f"; {duration(result['seconds_wall'])} of wall time"
    return text


def claim(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of claims."""
    outcome = verdict(row["holds"], row["seeds"])
    return {
        "statement": row["statement"],
        "published": row["published"],
        "ours": with_spread(row["ours"], row["std"]),
        "control": number(row["control"]),
        "rule": row.get("rule", ""),
        "verdict": outcome,
    }


def any_claim(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of claims, its numbers of any unit, and the reason where it is open."""
    rule = "; ".join(filter(None, (row["rule"], row["why"])))
    if row["fixed"]:
        rule += f" (bound: {row['fixed']})"
    return claim({**row, "rule": rule}) | {
        "ours": any_number(row["ours"], row["std"]),
        "control": any_number(row["control"]),
    }


def counts(claims: Sequence[Mapping[str, Any]]) -> dict[str, int | str]:
    """The number of claims that hold, do not, and are undecided, and what the last need."""
    kinds = [verdict(c["holds"], c["seeds"]).kind for c in claims]
    return {kind: kinds.count(kind) for kind in ("yes", "no", "open")} | {"needs": OPEN}


def table(rows: Sequence[SetRow], norm: str) -> dict[str, Any]:
    """A table's columns and cells; columns that apply to no row are left out."""
    names = dict.fromkeys(c for r in rows for c in r.columns)
    names = [c for c in names if any(r.mean(c) is not None for r in rows)]
    return {
        "columns": [column_of(c) for c in names],
        "rows": [
            {
                "name": r.name,
                "eps": eps_text(norm, r.eps),
                "seeds": r.seeds,
                "control": r.is_control,
                "cells": [cell(r, c) for c in names],
            }
            for r in rows
        ],
    }


def glossary(run: Run) -> dict[str, str]:
    """Explanations of the run's sets."""
    names = dict.fromkeys(base_name(r.name) for r in run.sets)
    meanings = {n: LONG[n].format(k=len(run.classes)) for n in names if n in LONG}
    if any(r.is_control for r in run.sets):
        meanings["leak: …"] = LONG["leak"]
    return meanings


def recipes(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings by part as JSON text; the rest comes last."""
    parts = {
        "Training of the standard model (on D)": config.get("standard"),
        "Training of the robust model (D_adv)": config.get("robust"),
        "Training of all other models, on the constructed sets": config.get("student"),
        "Making of D_R and D_NR": config.get("inversion"),
        "Everything else": {k: v for k, v in config.items() if k not in PARTS},
    }
    return {
        name: json.dumps(part, indent=1, ensure_ascii=False) for name, part in parts.items() if part
    }
