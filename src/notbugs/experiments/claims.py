"""A paper's claims as inequalities over seeds, reported whether they hold or not."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from scipy.special import stdtrit

SeedValues: TypeAlias = Sequence[float]
LEVEL = 0.95
"""Confidence level of the one-sided intervals: at most 5 % of false claims are said to hold."""
FEWEST = 3
"""The smallest number of seeds that can decide a claim."""


@dataclass(frozen=True)
class Finding:
    """The result of a claim: one value per seed, the control's values, and the decision."""

    ours: SeedValues
    control: SeedValues | None
    holds: bool | None
    rule: str


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    - `published`: the paper's numbers as text, with the section
    - `measure`: takes the per-seed numbers of a run and returns a `Finding`; None where the
      run has no numbers for it
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
    """The one-sided lower and upper confidence bounds of the mean over seeds.

    By Student's t: mean -+ t(level, n - 1) * deviation / sqrt(n). None for fewer than `FEWEST`
    seeds, whose deviation is too uncertain, and where a value is not finite.
    """
    n = len(values)
    if n < FEWEST or not all(map(math.isfinite, values)):
        return None
    deviation = statistics.stdev(values)
    half = float(stdtrit(n - 1, level)) * deviation / math.sqrt(n)
    return mean(values) - half, mean(values) + half


def exceeds(values: SeedValues, bound: float = 0.0, level: float = LEVEL) -> bool | None:
    """Whether the mean over seeds is above a bound; decided where the whole interval agrees.

    Pass differences of paired seeds to test whether one quantity exceeds another. None
    (undecided) where there are too few seeds, or they vary too much.
    """
    return _decided(interval(values, level), lambda value: value > bound)


def at_least(values: SeedValues, bound: float) -> bool | None:
    """Whether the mean over seeds is at least a bound, as `exceeds`."""
    return _decided(interval(values), lambda value: value >= bound)


def at_most(values: SeedValues, bound: float) -> bool | None:
    """Whether the mean over seeds is at most a bound, as `exceeds`."""
    return _decided(interval(values), lambda value: value <= bound)


def _decided(bounds: tuple[float, float] | None, holds: Callable[[float], bool]) -> bool | None:
    """True or False where `holds` agrees on both bounds, else None."""
    if bounds is None:
        return None
    low, high = map(holds, bounds)
    return low if low == high else None


def row(claim: Claim, numbers: Any, seeds: int) -> Mapping[str, object] | None:
    """The claim's entry in `results.json`; None where it does not apply."""
    finding = claim.measure(numbers)
    if finding is None:
        return None
    return {
        "id": claim.id,
        "statement": claim.statement,
        "published": claim.published,
        "ours": mean(finding.ours),
        "control": None if finding.control is None else mean(finding.control),
        "seeds": seeds,
        "std": spread(finding.ours),
        "rule": finding.rule,
        "per_seed": list(finding.ours),
        "holds": finding.holds,
    }
