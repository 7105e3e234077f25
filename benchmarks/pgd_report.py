"""The Markdown of the PGD suite."""

from typing import Any, NamedTuple

from measure import Spread
from pgd_contenders import OURS
from table import between, document, mib, table, threat_of, with_error


class Target(NamedTuple):
    """What the project wants of itself: `wanted` at least (or at most) on a model.

    `peer`'s time by that of `ours`, for a call; without a peer, the time of one more step of
    `ours` by the plain loop's.
    """

    model: str
    ours: str
    peer: str | None
    wanted: float


FAST, BOTH = "notbugs, fast path", "notbugs, dropping, fast path"
SLOW_PEERS, QUICK_PEERS = ("foolbox", "ART", "cleverhans"), ("torchattacks", "adv-lib")
TARGETS = (
    Target("linear", "notbugs", None, 1.3),
    *(Target("resnet20", FAST, peer, 3.0) for peer in SLOW_PEERS),
    *(Target("resnet20", FAST, peer, 2.0) for peer in QUICK_PEERS),
    *(Target("resnet20", BOTH, peer, 4.0) for peer in SLOW_PEERS),
    *(Target("resnet20", BOTH, peer, 3.0) for peer in QUICK_PEERS),
)


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, models, targets, strength, speed."""
    parts = (targets(found["speed"]), _strength(found["strength"]), _speed(found["speed"]))
    return document("PGD beside its peers", found, parts)


def targets(speed: list[dict[str, Any]]) -> str:
    """What was wanted, what was measured, and whether that is enough."""
    by_name = {(row["model"], row["norm"], row["contender"]): row for row in speed}
    rows: list[tuple[object, ...]] = []
    for target in TARGETS:
        for norm in ("linf", "l2"):
            row = by_name.get((target.model, norm, target.peer or target.ours))
            if row is None:
                continue
            if target.peer is None:
                spread, what = row["step_to_plain"], "one more step: it / plain loop"
                wanted, met = f"<= {target.wanted}", spread.middle <= target.wanted
            else:
                spread, what = row["to_ours"][target.ours], f"a call: {target.peer} / it"
                wanted, met = f">= {target.wanted}", spread.middle >= target.wanted
            where = f"{target.model}, {threat_of(row)}"
            yes = "yes" if met else "**no**"
            rows.append((where, target.ours, what, wanted, between(spread), yes))
    heads = ("where", "it", "ratio of time", "wanted", "median (quartiles)", "met")
    return "## Targets\n\n" + table(heads, rows) if rows else ""


def _strength(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    heads = ("model", "threat", "steps", "start", "contender", "success %", "only it / only ours")
    rows = [
        (
            row["model"],
            threat_of(row),
            row["steps"],
            f"random, n={row['success'].n}" if row["random_start"] else "at the image",
            row["contender"],
            with_error(row["success"]),
            ""
            if row["contender"] == "notbugs"
            else f"{row['only_it']:.3g} / {row['only_notbugs']:.3g}",
        )
        for row in found
    ]
    worst = max(row["violation"] for row in found)
    return (
        "## Strength\n\nSuccess in percent of the images, all of which the model has right, "
        "judged by this benchmark from what is returned: mean ± standard error over n random "
        "starts. The last column counts images, an average over starts: those that fell to this "
        "one and not to notbugs, and the other way round. No result left its threat by more "
        f"than {worst:.1e}.\n\n" + table(heads, rows)
    )


def _speed(found: list[dict[str, Any]]) -> str:
    heads = (
        "contender",
        "passes an image",
        "µs an image-gradient",
        "/ plain loop",
        "the same on the clock",
        "one more step / plain loop",
        *(f"/ {name}" for name in OURS),
        "peak MiB",
    )
    parts = [_how()]
    for model, norm in dict.fromkeys((row["model"], row["norm"]) for row in found):
        rows = [row for row in found if (row["model"], row["norm"]) == (model, norm)]
        parts.append(f"### {model}, {threat_of(rows[0])}\n\n{_said(rows[0])}\n")
        parts.append(table(heads, [_line(row) for row in rows]))
    return "## Speed\n\n" + "\n".join(parts)


def _said(row: dict[str, Any]) -> str:
    fast = (
        "is used"
        if row["stand_in"]
        else "is not used: the job is too short, or the model does as well"
    )
    lengths = " and ".join(map(str, row["steps"]))
    return (
        f"Batch of {row['images']}, calls of {lengths} steps of {row['step_size']:.3g}, n="
        f"{row['rounds']} rounds. On the fast path a folded copy of the model {fast}."
    )


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    def ours(name: str) -> str:
        spread: Spread = row["to_ours"][name]
        return "1" if name == row["contender"] else f"{spread.middle:.2f}"

    return (
        row["contender"],
        f"{row['forwards_per_image']:.1f} f + {row['backwards_per_image']:.1f} b",
        f"{row['microseconds_per_image_gradient'].middle:.2f}",
        between(row["to_plain"]),
        f"{row['to_plain_wall'].middle:.2f}",
        between(row["step_to_plain"]),
        *(ours(name) for name in OURS),
        mib(row["peak_mib"]),
    )


def _how() -> str:
    return (
        "Ratios of time within the same round: median (quartiles). Which time counts the "
        "settings say: that of the processor, summed over threads, or that on the clock, which "
        "suffers from whatever else the machine was doing. A call includes all that a contender "
        "checks and verifies; one more step is the slope between the two calls. Passes, time of "
        "an image-gradient and memory are those of the shorter call. With dropping, fewer "
        "gradients are taken: the time of a call tells what that saves, the time of an "
        "image-gradient does not. Memory is how far the resident size of the process rose above "
        "where it was before the call.\n"
    )
