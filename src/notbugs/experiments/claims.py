"""Claims of a paper, decided by inequalities over seeds and printed whether they hold or not."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from scipy.special import stdtrit

SeedValues: TypeAlias = Sequence[float]
LEVEL = 0.95
"""Of the one-sided intervals: at most 5 % of claims that are not so are said to hold."""
FEWEST = 3
"""Seeds that decide anything."""


@dataclass(frozen=True)
class Finding:
    """What a claim measured: one value a seed, the control's beside it, and the decision."""

    ours: SeedValues
    control: SeedValues | None
    holds: bool | None
    rule: str


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    - `published`: the paper's numbers in words, with where they stand
    - `measure`: takes the per-seed numbers of a run and gives a `Finding`; None where the
      run holds nothing to decide it by
    """

    id: str
    statement: str
    published: str
    measure: Callable[[Any], Finding | None]


def mean(values: SeedValues) -> float:
    """The mean over seeds."""
    return statistics.fmean(values)


def spread(values: SeedValues) -> float | None:
    """The standard deviation over seeds (n - 1); None for a single seed."""
    return statistics.stdev(values) if len(values) > 1 else None


def interval(values: SeedValues, level: float = LEVEL) -> tuple[float, float] | None:
    """The one-sided bounds of the mean over seeds at a level, from below and from above.

    By Student's t: mean -+ t(level, n - 1) * deviation / sqrt(n). None for fewer than `FEWEST`
    seeds, whose deviation says next to nothing, and where a value is not finite.
    """
    n = len(values)
    if n < FEWEST or not all(map(math.isfinite, values)):
        return None
    deviation = statistics.stdev(values)
    half = float(stdtrit(n - 1, level)) * deviation / math.sqrt(n)
    return mean(values) - half, mean(values) + half


def exceeds(values: SeedValues, bound: float = 0.0, level: float = LEVEL) -> bool | None:
    """Whether the mean over seeds is above a bound: yes or no where its whole interval is.

    With the differences of paired seeds: whether one exceeds the other. None where too few
    seeds, or too different ones, leave it open.
    """
    return _decided(interval(values, level), lambda value: value > bound)


def at_least(values: SeedValues, bound: float) -> bool | None:
    """As `exceeds`, with the bound itself allowed."""
    return _decided(interval(values), lambda value: value >= bound)


def at_most(values: SeedValues, bound: float) -> bool | None:
    """Whether the mean over seeds is at most a bound, as `exceeds`."""
    return _decided(interval(values), lambda value: value <= bound)


def _decided(bounds: tuple[float, float] | None, holds: Callable[[float], bool]) -> bool | None:
    """What is true of both bounds, or of neither; None in between."""
    if bounds is None:
        return None
    low, high = map(holds, bounds)
    return low if low == high else None


def row(claim: Claim, numbers: Any, seeds: int) -> Mapping[str, object] | None:
    """The claim as it stands in `results.json`; None where it does not apply."""
    found = claim.measure(numbers)
    if found is None:
        return None
    return {
        "id": claim.id,
        "statement": claim.statement,
        "published": claim.published,
        "ours": mean(found.ours),
        "control": None if found.control is None else mean(found.control),
        "seeds": seeds,
        "std": spread(found.ours),
        "rule": found.rule,
        "per_seed": list(found.ours),
        "holds": found.holds,
    }
