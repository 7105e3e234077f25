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
        f"{given['restarts']} restart, random starts from seeds 0, 1, ... (as many as n), "
        f"at least {given['fewest_rounds']} timed rounds after one that warms up, contenders in "
        f"turn; OMP_WAIT_POLICY={given['omp_wait_policy']}.\n"
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
            f"random, n={row['seeds']}" if row["random_start"] else "at the image",
            row["contender"],
            _rate(row),
            _apart(row),
        )
        for row in found
    ]
    worst = max(row["violation"] for row in found)
    return (
        "## Strength\n\nSuccess in percent of the images that the model had right, judged by "
        "this benchmark from the returned images: mean ± standard error over n random starts. The "
        "last column counts images, where all contenders start alike: those that fell to this "
        f"one and not to notbugs, and the other way round. No result left its threat by more "
        f"than {worst:.1e}.\n\n" + _table(heads, rows)
    )


def _apart(row: dict[str, Any]) -> str:
    if row["contender"] == "notbugs" or row["random_start"]:
        return ""
    return f"{row['only_it']:g} / {row['only_notbugs']:g}"


def _rate(row: dict[str, Any]) -> str:
    spread: Spread = row["success"]
    if spread.n == 1:
        return f"{spread.middle:.2f}"
    return f"{spread.middle:.2f} ± {spread.high - spread.middle:.2f}"


def _speed(found: list[dict[str, Any]]) -> str:
    heads = (
        "model",
        "threat",
        "contender",
        "passes an image",
        "µs an image-step",
        "one more step",
        "short call",
        "long call",
        "long call, wall",
    )
    rows = [
        (
            f"{row['model']}, batch {row['batch']}",
            f"{row['norm']}:{row['eps']:.3g}",
            row["contender"],
            f"{row['forwards_per_image']:g} f + {row['backwards_per_image']:g} b",
            f"{row['microseconds_per_image_step'].middle:.2f}",
            _times(row["ratio_step"]),
            f"{_times(row['ratio_few'])}",
            f"{_times(row['ratio_many'])}",
            _times(row["ratio_many_wall"]),
        )
        for row in found
    ]
    return "## Speed\n\n" + _how(found) + "\n\n" + _table(heads, rows)


def _how(found: list[dict[str, Any]]) -> str:
    calls = {row["model"]: (*row["steps"], row["rounds"]) for row in found}
    listed = "; ".join(f"{m}: {few} and {many}, n={n}" for m, (few, many, n) in calls.items())
    return (
        "Time as a multiple of the plain loop's in the same round: median (quartiles). It is "
        "processor time, summed over threads, but for the last column, which is on the clock "
        "and suffers from whatever else the machine was doing. A call includes all that a "
        "contender checks and verifies; one more step is the slope between the two calls. "
        "Passes are counted at the short call. Steps of the short and the long call, and "
        f"rounds (of the last threat): {listed}."
    )


def _times(spread: Spread) -> str:
    return f"{spread.middle:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
