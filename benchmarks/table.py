"""The results as JSON, with everything, and as Markdown, to be read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from measure import Spread


def write(found: dict[str, Any], folder: Path, name: str) -> str:
    """Writes `<name>-<date>.json` and `.md` into `folder`; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{found['conditions']['date']}"
    text = markdown(found)
    (folder / f"{stem}.json").write_text(json.dumps(found, indent=1, default=_plain) + "\n")
    (folder / f"{stem}.md").write_text(text)
    return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"Cannot write {type(value).__name__}")


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, models, strength, speed."""
    parts = [
        f"# PGD beside its peers, {found['conditions']['date']}\n",
        _conditions(found["conditions"]),
        _models(found["models"]),
        _strength(found["strength"]),
        _speed(found["speed"]),
    ]
    return "\n".join(part for part in parts if part)


def _conditions(given: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    dirty = " (with uncommitted changes in src)" if given["uncommitted_changes_in_src"] else ""
    return (
        f"Conditions: {given['processor']}, {given['cores']} cores, {given['threads']} threads, "
        f"{given['dtype']}, load average {given['load_average']} before and "
        f"{given['load_average_after']} after (other processes were running; compare ratios, "
        f"not times); Python {given['python']}, {versions}; notbugs at commit "
        f"{given['commit']}{dirty}.\n\n"
        f"All contenders: untargeted, cross-entropy, step size {given['step_size']}, "
        f"{given['restarts']} restart, seeds {given['seeds']} where the start is random, "
        f"{given['repeats']} timed rounds after one that warms up.\n"
    )


def _models(models: dict[str, Any]) -> str:
    rows = [
        (
            name,
            one["about"],
            one["parameters"],
            one["images"],
            "speed only" if one["speed_only"] else f"{one['clean_accuracy']:.1f} %",
        )
        for name, one in models.items()
    ]
    return "## Models\n\n" + _table(("model", "what", "parameters", "images", "clean"), rows)


def _strength(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    heads = ("model", "threat", "steps", "start", "contender", "success %", "only it / only ours")
    rows = [
        (
            row["model"],
            f"{row['norm']}:{row['eps']:.3g}",
            row["steps"],
            f"random, {row['seeds']} seeds" if row["random_start"] else "at the image",
            row["contender"],
            _rate(row),
            ""
            if row["contender"] == "notbugs"
            else f"{row['only_it']:g} / {row['only_notbugs']:g}",
        )
        for row in found
    ]
    worst = max(row["violation"] for row in found)
    return (
        "## Strength\n\nSuccess in percent of the images that the model had right, judged by "
        "this benchmark from the returned images: mean (lowest to highest seed). The last "
        "column counts images, a seed: those that fell to this contender and not to notbugs, "
        f"and the other way round. No result left its threat by more than {worst:.1e}.\n\n"
        + _table(heads, rows)
    )


def _rate(row: dict[str, Any]) -> str:
    spread: Spread = row["success"]
    if row["seeds"] == 1:
        return f"{row['mean_success']:.1f}"
    return f"{row['mean_success']:.1f} ({spread.low:.1f} to {spread.high:.1f})"


def _speed(found: list[dict[str, Any]]) -> str:
    heads = (
        "model",
        "threat",
        "batch",
        "contender",
        "passes an image",
        "us an image-step",
        "call, fewest steps",
        "call, most steps",
        "one more step",
    )
    rows = [
        (
            row["model"],
            f"{row['norm']}:{row['eps']:.3g}",
            row["batch"],
            row["contender"],
            f"{row['forwards_per_image']:g} f + {row['backwards_per_image']:g} b "
            f"at {row['steps'][0]} steps",
            f"{row['microseconds_per_image_step'].median:.2f}",
            f"{_times(row['ratio_few'])} at {row['steps'][0]}",
            f"{_times(row['ratio_many'])} at {row['steps'][1]}",
            _times(row["ratio_step"]),
        )
        for row in found
    ]
    return (
        "## Speed\n\nTime as a multiple of the plain loop's in the same round: median (lowest "
        "to highest round). The whole call includes what a contender checks and verifies; "
        "one more step is the slope between the two numbers of steps.\n\n" + _table(heads, rows)
    )


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
