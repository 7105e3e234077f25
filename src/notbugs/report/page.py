"""The page of a run: one HTML file that opens anywhere, offline."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from notbugs.data.writing import write_file
from notbugs.report import figures
from notbugs.report.command import reproduction
from notbugs.report.figures import DARK, LIGHT, Theme
from notbugs.report.figures.adversarial import MODELS, magnification
from notbugs.report.reading import Run, SetRow, read_run
from notbugs.report.words import (
    LONG,
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

PAGE = "report.html"
DRAWN = {
    "examples": figures.examples,
    "bars": figures.bars,
    "crossover": figures.crossover,
    "adversarial": figures.adversarial,
}
NEEDED = {
    "examples": ("D.images", "D.labels"),
    "adversarial": (
        "adv.images",
        "adv.labels",
        *(f"adv.{model}.{what}" for model in MODELS for what in ("images", "said")),
    ),
}
"""The sample tensors without which a figure cannot be drawn."""
FIRST_CLASSES = 12
PARTS = ("standard", "robust", "student", "inversion")


def write_report(folder: Path) -> Path:
    """Writes `folder/report.html` and `folder/figures/*.png` from the run's results.

    The page is complete in itself: pictures and styles are inside, nothing is loaded.

    Raises:
        DataError: `folder` holds no results.json of ours, or damaged pictures.
        StoreError: the folder cannot be written.

    >>> write_report(Path("runs/demo"))  # doctest: +SKIP
    """
    run = read_run(folder)
    light = _draw(run, LIGHT)
    for name, content in light.items():
        write_file(folder / "figures" / f"{name}.png", _writer(content))
    text = render(run, light, _draw(run, DARK))
    write_file(folder / PAGE, _writer(text.encode("utf-8")))
    return folder / PAGE


def _writer(content: bytes) -> Any:
    return lambda file: file.write(content)  # pyright: ignore[reportUnknownLambdaType]


def _draw(run: Run, theme: Theme) -> dict[str, bytes]:
    """Every figure for which the run has what it takes, as PNG."""
    return {n: figures.png(draw(run, theme)) for n, draw in DRAWN.items() if _possible(run, n)}


def _possible(run: Run, name: str) -> bool:
    if name in NEEDED:
        return all(key in run.samples for key in NEEDED[name])
    return name != "crossover" or any(r.eps is not None for r in run.sets)


def render(run: Run, light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """The page as text, with the pictures of both colour schemes inside."""
    environment = Environment(
        loader=PackageLoader("notbugs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        result=run.result,
        facts=_facts(run),
        conditions=_conditions(run),
        claims=[_claim(c) for c in run.result["claims"]],
        counts=_counts(run.result["claims"]),
        sets=_table(run.sets, run.norm),
        planted=_table(run.planted, run.norm),
        glossary=_glossary(run),
        recipes=_recipes(run.config),
        again=reproduction(str(run.result["experiment"]), run.config),
        pictures={n: {"light": _embedded(light[n]), "dark": _embedded(dark[n])} for n in light},
        scale=magnification(run) if "adversarial" in light else None,
    )


def _embedded(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _facts(run: Run) -> dict[str, Any]:
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


def _conditions(run: Run) -> dict[str, str]:
    """The conditions as a list of names and values; what a run does not tell is left out."""
    facts, versions = _facts(run), dict(run.result.get("versions") or {})
    machine = [versions.get("machine"), _with(versions.get("cores"), "cores")]
    gpu = versions.get("gpu")
    machine.append("no GPU" if gpu in (None, "none") else gpu)
    programs = [
        f"{n} {versions[n]}" for n in ("notbugs", "torch", "numpy", "python") if n in versions
    ]
    shown = ", ".join(run.classes[:FIRST_CLASSES])
    more = len(run.classes) - FIRST_CLASSES
    found = {
        "Dataset": f"{run.title} ({run.conditions.get('data', '')})",
        "Images": f"{facts['train']} to train, {facts['val']} held out, {facts['test']} to test"
        + _shape(run),
        "Classes": f"{len(run.classes)}: {shown}" + (f" and {more} more" if more > 0 else ""),
        "Attack": f"{facts['norm']}, ε = {facts['eps']} and {facts['half']} in pixel units of "
        f"[0, 1]; {run.conditions.get('evaluation', '')}",
        "Sets built at": f"ε = {facts['sets']}" if facts["sets"] else "",
        "Architecture": str(run.config.get("architecture", "")),
        "Seeds": f"{facts['seeds']} (each varies split, models, targets and patterns)",
        "Preset": str(run.result.get("preset", "")),
        "Machine": ", ".join(str(m) for m in machine if m),
        "Versions": ", ".join(programs),
        "Time": _time(run.result),
    }
    return {name: value for name, value in found.items() if value}


def _with(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


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


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    found = verdict(claim["holds"])
    return {
        "statement": claim["statement"],
        "published": claim["published"],
        "ours": with_spread(claim["ours"], claim["std"]),
        "control": number(claim["control"]),
        "rule": claim.get("rule", ""),
        "verdict": found,
    }


def _counts(claims: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    kinds = [verdict(c["holds"]).kind for c in claims]
    return {kind: kinds.count(kind) for kind in ("yes", "no", "open")}


def _table(rows: Sequence[SetRow], norm: str) -> dict[str, Any]:
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


def _glossary(run: Run) -> dict[str, str]:
    names = dict.fromkeys(base_name(r.name) for r in run.sets)
    found = {n: LONG[n].format(k=len(run.classes)) for n in names if n in LONG}
    if any(r.is_control for r in run.sets):
        found["leak: …"] = LONG["leak"]
    return found


def _recipes(config: Mapping[str, Any]) -> dict[str, str]:
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
