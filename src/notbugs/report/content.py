"""What the page says: sentences' facts, conditions, claims, tables and recipes, as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from notbugs.report.reading import Run, SetRow
from notbugs.report.words import (
    LONG,
    OPEN,
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

FIRST_CLASSES = 12
PROGRAMS = ("notbugs", "torch", "numpy", "python")
PARTS = ("standard", "robust", "student", "inversion")


def facts(run: Run) -> dict[str, Any]:
    """What the sentences of the page need."""
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
    """The conditions as a list of names and values; what a run does not tell is left out."""
    known = facts(run)
    shown = ", ".join(run.classes[:FIRST_CLASSES])
    more = len(run.classes) - FIRST_CLASSES
    found = {
        "Dataset": f"{run.title} ({run.conditions.get('data', '')})",
        "Images": f"{known['train']} to train, {known['val']} held out, {known['test']} to test"
        + _shape(run),
        "Classes": f"{len(run.classes)}: {shown}" + (f" and {more} more" if more > 0 else ""),
        "Attack": f"{known['norm']}, ε = {known['eps']} and {known['half']} in pixel units of "
        f"[0, 1]; {run.conditions.get('evaluation', '')}",
        "Sets built at": f"ε = {known['sets']}" if known["sets"] else "",
        "Architecture": str(run.config.get("architecture", "")),
        "Seeds": f"{known['seeds']} (each varies split, models, targets and patterns)",
        "Preset": str(run.result.get("preset", "")),
        **machine_and_time(run.result),
    }
    return {name: value for name, value in found.items() if value}


def machine_and_time(result: Mapping[str, Any]) -> dict[str, str]:
    """Where a run was made, with what, and how long it took."""
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
    """Work in this run, and in all where some of it came from the store."""
    if "seconds" not in result:
        return ""
    text = f"{duration(result['seconds'])} of work in this run"
    if "seconds_total" in result:
        text += f", {duration(result['seconds_total'])} with what came from the store"
    if "seconds_wall" in result:
        text += f"; {duration(result['seconds_wall'])} by the clock"
    return text


def claim(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of claims."""
    found = verdict(row["holds"], row["seeds"])
    return {
        "statement": row["statement"],
        "published": row["published"],
        "ours": with_spread(row["ours"], row["std"]),
        "control": number(row["control"]),
        "rule": row.get("rule", ""),
        "verdict": found,
    }


def counts(claims: Sequence[Mapping[str, Any]]) -> dict[str, int | str]:
    """How many claims held, did not, and are open, and what those need."""
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
    """What each set of the run is."""
    names = dict.fromkeys(base_name(r.name) for r in run.sets)
    found = {n: LONG[n].format(k=len(run.classes)) for n in names if n in LONG}
    if any(r.is_control for r in run.sets):
        found["leak: …"] = LONG["leak"]
    return found


def recipes(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings by part, as text; what is no part of its own comes last."""
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
