"""Results as JSON, with everything, and as Markdown, to be read."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measure import Spread


def write(found: dict[str, Any], text: str, folder: Path, name: str) -> Path:
    """Writes `<name>-<date>.json` and `.md` into `folder`; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{found['conditions']['date']}"
    report = folder / f"{stem}.md"
    (folder / f"{stem}.json").write_text(json.dumps(found, indent=1, default=_plain) + "\n")
    report.write_text(text)
    return report


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"Cannot write {type(value).__name__}")


def document(title: str, found: dict[str, Any], parts: Iterable[str]) -> str:
    """A report: its title and conditions, the models, then `parts`."""
    head = f"# {title}, {found['conditions']['date']}\n"
    whole = (head, conditions(found), models(found["models"]), *parts)
    return "\n".join(part for part in whole if part)


def conditions(found: dict[str, Any]) -> str:
    """Under what the numbers were taken."""
    given = found["conditions"]
    versions = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    dirty = " (with uncommitted changes in src)" if given["uncommitted_changes_in_src"] else ""
    settings = "; ".join(f"{name}: {value}" for name, value in found["settings"].items())
    quick = "**A quick run: it shows that the script works, not how fast anything is.**\n\n"
    return (
        f"{quick if given['quick'] else ''}"
        f"Conditions: {given['processor']}, {given['cores']} cores, {given['threads']} threads, "
        f"{given['dtype']}, load average {given['load_average']} before and "
        f"{given['load_average_after']} after; Python {given['python']}, {versions}; notbugs at "
        f"commit {given['commit']}{dirty}; OMP_WAIT_POLICY={given['omp_wait_policy']}.\n\n"
        f"Settings: {settings}.\n"
    )


def models(found: dict[str, dict[str, Any]]) -> str:
    """The models, one a row."""
    rows = [
        (name, one["about"], one["parameters"], one["images"], "x".join(map(str, one["shape"])))
        for name, one in found.items()
    ]
    return "## Models\n\n" + table(("model", "what", "parameters", "images", "shape"), rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def between(spread: Spread | None, digits: int = 2) -> str:
    """The median and, of more than one repeat, its quartiles."""
    if spread is None:
        return ""
    if spread.n == 1:
        return f"{spread.middle:.{digits}f}"
    return f"{spread.middle:.{digits}f} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def with_error(spread: Spread) -> str:
    """The mean and, of more than one repeat, its standard error."""
    if spread.n == 1:
        return f"{spread.middle:.2f}"
    return f"{spread.middle:.2f} ± {spread.high - spread.middle:.2f}"


def mib(value: float | None) -> str:
    """Memory, or a dash where it was not measured."""
    return "-" if value is None else f"{value:.0f}"


def threat_of(row: dict[str, Any]) -> str:
    """A row's threat as users write it."""
    return f"{row['norm']}:{row['eps']:.3g}"
