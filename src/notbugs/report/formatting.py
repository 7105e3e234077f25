"""Text formats of the report: numbers, durations, verdicts."""

from dataclasses import dataclass

from notbugs.experiments.numbers import FEWEST

NONE = "–"
"""Shown where a number does not apply."""

NORM_NAMES = {"l2": "L2", "linf": "L∞", "l1": "L1", "l0": "L0"}


@dataclass(frozen=True)
class Verdict:
    """A claim's outcome: a mark, text, and a name for styles."""

    mark: str
    words: str
    kind: str


OPEN = f"needs at least {FEWEST} seeds, and a clear difference"
"""What an undecided claim needs."""


def verdict(holds: bool | None, seeds: int) -> Verdict:
    """The outcome as text; `holds` is None where the seeds do not decide it."""
    if holds is None:
        return Verdict(NONE, f"undecided at {seeds} seed{'s' * (seeds != 1)}", "open")
    return Verdict("✓", "holds", "yes") if holds else Verdict("✗", "does not hold", "no")


def norm_name(norm: str) -> str:
    """A norm's usual notation: L2, L∞."""
    return NORM_NAMES.get(norm, norm)


def any_number(value: float | None, std: float | None = None) -> str:
    """A number of any unit and size with three digits, and its deviation."""
    if value is None:
        return NONE
    text = f"{value:.3g}"
    return text if std is None else f"{text} ± {std:.2g}"


def duration(seconds: float | None) -> str:
    """Seconds as readable text: 8 s, 2 min 05 s, 1 h 10 min."""
    if seconds is None:
        return NONE
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s" if rounded else f"{seconds:.1f} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
