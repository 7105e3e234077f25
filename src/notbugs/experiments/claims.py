"""Claims of a paper, decided by inequalities over seeds and printed whether they hold or not."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

SeedValues: TypeAlias = Sequence[float]


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


def outside_spread(differences: SeedValues) -> bool | None:
    """Whether the mean difference exceeds twice its standard error over seeds.

    None for fewer than two seeds: a single one has no spread to be outside of.
    """
    deviation = spread(differences)
    if deviation is None:
        return None
    return mean(differences) > 2 * deviation / math.sqrt(len(differences))


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
