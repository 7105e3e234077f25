"""The Markdown of the training benchmark."""

from typing import Any

from measure import Spread
from table import between, document, table, with_error
from training_contenders import CAREFUL, LINED_UP, OURS, PEERS, TUTORIAL
from training_suite import noise

AGAINST = (TUTORIAL, *PEERS, CAREFUL, LINED_UP)
"""In the order of the targets."""


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, models, targets, and a table for each model."""
    models = dict.fromkeys(row["model"] for row in found["trained"])
    parts = [_targets_said()]
    for model in models:
        rows = [row for row in found["trained"] if row["model"] == model]
        parts.append(f"### {model}\n\n{_noise_said(rows)}\n\n{targets(rows)}")
    parts.append(_how())
    for model in models:
        rows = [row for row in found["trained"] if row["model"] == model]
        count = f"{found['image_gradients'][model]:,} image-gradients a training."
        parts.append(f"### {model}: what was measured\n\n{count}\n\n{trained(rows)}")
    return document("Robust training beside its peers", found, parts)


def targets(rows: list[dict[str, Any]]) -> str:
    """For each of ours and each other: is it as robust, and is it faster."""
    by_name = {row["contender"]: row for row in rows}
    margin, lines = noise(rows), list[tuple[object, ...]]()
    for mine in (name for name in OURS if name in by_name):
        for other in (name for name in AGAINST if name in by_name):
            gap = by_name[mine]["robust"].middle - by_name[other]["robust"].middle
            ratio: Spread = by_name[other]["to_ours"][mine]
            lines.append(
                (
                    mine,
                    other,
                    f"{gap:+.2f}",
                    "-" if margin is None else _yes(gap >= -margin),
                    between(ratio),
                    _yes(ratio.middle > 1),
                )
            )
    heads = (
        "it",
        "beside",
        "robust accuracy: it - other, points",
        "no worse than noise",
        "time: other / it",
        "faster (> 1)",
    )
    return table(heads, lines)


def trained(rows: list[dict[str, Any]]) -> str:
    """Accuracies, passes and times of all contenders."""
    heads = (
        "contender",
        "clean %",
        "robust %",
        "passes an image and epoch",
        "µs an image-gradient",
        "seconds, processor",
        f"/ {OURS[0]}",
        "the same on the clock",
    )
    return table(heads, [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    ratio, wall = row["to_ours"][OURS[0]], row["to_ours_wall"][OURS[0]]
    return (
        row["contender"],
        with_error(row["clean"]),
        with_error(row["robust"]),
        f"{row['forwards']:.1f} f + {row['backwards']:.1f} b",
        between(row["microseconds_per_image_gradient"], 1),
        between(row["cpu_seconds"]),
        "1" if row["contender"] == OURS[0] else between(ratio),
        "1" if row["contender"] == OURS[0] else f"{wall.middle:.2f}",
    )


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def _targets_said() -> str:
    return (
        "## Targets\n\nWanted: robust accuracy equal to the other's (no worse than noise), in "
        "less time than it takes (a ratio above 1). Ratios are medians (quartiles) over rounds, "
        "of processor time within a round.\n"
    )


def _noise_said(rows: list[dict[str, Any]]) -> str:
    margin = noise(rows)
    if margin is None:
        return "One round, or one contender: what noise is cannot be told."
    n = len(rows[0]["robust_of_rounds"])
    return (
        f"Noise: {margin:.2f} points, two standard errors of a difference between means of n={n} "
        "seeds (from what is left when each contender's mean and each seed's are taken out; the "
        "same initial weights and test images for all)."
    )


def _how() -> str:
    return (
        "## Results\n\nAccuracies: mean ± standard error over seeds, judged by this benchmark. "
        "Everyone takes as many gradient steps, with the same optimiser, schedule, attack and "
        "initial weights; each shuffles and starts PGD with draws of its own. *Passes* are of an "
        "image and epoch. An *image-gradient* is a forward and a backward pass of an image, "
        "crafting or learning: one more than PGD has steps, for each image and epoch; what else a "
        "contender does is part of its time. notbugs keeps the point of highest loss, which takes "
        "one more forward pass; the others take the last.\n"
    )
