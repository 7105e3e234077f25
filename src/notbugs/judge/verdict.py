"""The result of an evaluation: outcomes for each example, and rates derived from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from notbugs.attacks.result import percent
from notbugs.core.types import Counts, Mask
from notbugs.engine import Threat
from notbugs.judge.missed import most_missed


@dataclass(frozen=True)
class AttackRecord:
    """One attack's part in a verdict: the rows that it was first to break, and its time.

    Of the `given_up` rows, on which it progressed too slowly, `checked` were attacked again with
    the whole budget, and `broken_in_check` of these broken; if any were, all were attacked again.
    `copy`: what it ran on, the model itself ("own") or a folded copy in "float32" or "bf16".
    """

    name: str
    broken: int
    seconds: float
    given_up: int = 0
    checked: int = 0
    broken_in_check: int = 0
    copy: str = "own"

    @property
    def share_checked(self) -> float:
        """The share of the rows given up that were attacked with the whole budget, 0..1."""
        return 1.0 if self.broken_in_check or not self.given_up else self.checked / self.given_up


@dataclass(frozen=True, repr=False)
class Verdict:
    """Robustness of a model on a set of images under one threat, counted per example.

    - `right` [n]: classified correctly when clean
    - `robust` [n]: right when clean AND under every attack and restart
    - `within_rounding` [n]: not robust because under some attack the label is not predicted,
      although no class leads it by more than rounding: another batch size may change that
    - `non_finite` [n]: not robust because the logits under some attack are NaN or infinite;
      `non_finite_points`: how many such points attacks met
    - `broken_by` [n]: index in `attacks` of the one that broke the row; -1 where none did
    - `zero_gradients`: percent of all pairs of an image and an attack on it in which the
      gradient was exactly zero in half of the steps or more, a sign of masking
    - `diagnosis`: the checks of `diagnose`, where it was run
    - `samples`: passes whose majority decided each entry; above 1 for a randomised model
    - `repeats`: the check "two passes agree", as in the diagnosis
    - `search_check`: the check on images broken by black-box after gradient attacks
    - `left_out`: attacks that did not run because the model has no gradients
    - `derivative`: the check on a model that has another derivative as well (MeanSparse)
    """

    threat: Threat
    right: Mask
    robust: Mask
    broken_by: Counts
    attacks: tuple[AttackRecord, ...]
    seconds: float
    forwards: int
    zero_gradients: float
    within_rounding: Mask
    non_finite: Mask
    non_finite_points: int = 0
    diagnosis: tuple[Mapping[str, str], ...] = ()
    samples: int = 1
    repeats: Mapping[str, str] | None = None
    search_check: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()
    derivative: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        most, (low, high) = "at most " * self.is_upper_bound, self.ci95
        bound = "; an upper bound, for a masking check fires" * self.is_upper_bound
        return (
            f"Verdict(n={self.n}, {self.threat}, clean accuracy {self.clean_accuracy:.2f} %, "
            f"robust accuracy {most}{self.robust_accuracy:.2f} %,\n"
            f"        95 % interval {low:.2f} to {high:.2f} %{bound})"
        )

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.right)

    @property
    def clean_accuracy(self) -> float:
        """Clean accuracy in percent, 0 to 100."""
        return percent(self.right)

    @property
    def robust_accuracy(self) -> float:
        """Robust accuracy in percent, 0 to 100; an upper bound where `is_upper_bound`."""
        return percent(self.robust)

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the robust accuracy over images, in percent.

        It covers the sampling of the images, not what attacks miss.
        """
        return wilson(int(self.robust.sum()), self.n)

    @property
    def given_up(self) -> int:
        """Number of rows given up, summed over attacks."""
        return sum(a.given_up for a in self.attacks)

    @property
    def missed(self) -> int:
        """The most images that may count as robust only because attacks gave up (95 %)."""
        if any(a.broken_in_check for a in self.attacks):
            return 0  # then all rows given up were attacked with the whole budget
        unchecked = sum(a.given_up - a.checked for a in self.attacks)
        least = min((a.share_checked for a in self.attacks), default=1.0)
        return min(most_missed(least), unchecked) if least > 0 else unchecked

    @property
    def masking(self) -> list[Mapping[str, str]]:
        """The checks for gradient masking, each with evidence and verdict."""
        missing = bool(self.left_out)
        share = f"in {self.zero_gradients:.1f}% of the images, attack by attack"
        zero_gradients = {
            "check": "zero gradients",
            "evidence": f"none at all: {', '.join(self.left_out)} left out" if missing else share,
            "verdict": "suspicious" if missing or self.zero_gradients > 5 else "clear",
        }
        checks = list(self.diagnosis or (zero_gradients, self.repeats))
        if self.repeats is not None and self.repeats["verdict"] == "suspicious":
            # The evaluation's own check replaces the diagnosis's, which ran after it.
            name = self.repeats["check"]
            checks = [
                self.repeats if check and check["check"] == name else check for check in checks
            ]
        checks += [self.search_check, self.derivative, self._finite()]
        return [check for check in checks if check is not None]

    @property
    def is_upper_bound(self) -> bool:
        """Whether a check fires, so that the true accuracy may lie far below `robust_accuracy`."""
        return any(check["verdict"] == "suspicious" for check in self.masking)

    def _finite(self) -> Mapping[str, str] | None:
        """The check on finite logits where it fires, else None."""
        if not self.non_finite_points:
            return None
        evidence = (
            f"NaN or infinite at {self.non_finite_points} points during attacks, and at the "
            f"end in {int(self.non_finite.sum())} images"
        )
        return {"check": "finite logits", "evidence": evidence, "verdict": "suspicious"}

    def as_json(self) -> Mapping[str, object]:
        """The verdict as plain numbers and lists, percent from 0 to 100."""
        checked = [
            {
                "name": a.name,
                "rows": a.given_up,
                "checked": a.checked,
                "broken_in_check": a.broken_in_check,
            }
            for a in self.attacks
            if a.given_up
        ]
        return {
            "threat": str(self.threat),
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "robust_accuracy_is_upper_bound": self.is_upper_bound,
            "ci95": list(self.ci95),
            "attacks": [
                {"name": a.name, "broken": a.broken, "seconds": a.seconds, "copy": a.copy}
                for a in self.attacks
            ],
            "masking": self.masking,
            "seconds": self.seconds,
            "forwards_per_image": self.forwards / max(1, self.n),
            **({"left_out": list(self.left_out)} if self.left_out else {}),
            **({} if self.samples == 1 else {"samples": self.samples}),
            **({"given_up": checked, "missed_at_most": self._bound()} if checked else {}),
            **self._unsettled(),
        }

    def _bound(self) -> Mapping[str, float]:
        return {
            "images": self.missed,
            "percent_of_given_up": 100 * self.missed / self.given_up,
            "percent_of_judged": 100 * self.missed / self.n,
            "confidence": 95,
        }

    def _unsettled(self) -> Mapping[str, int]:
        """The counts of images that are neither robust nor broken, where there are any."""
        counts = {
            "within_rounding": int(self.within_rounding.sum()),
            "non_finite": int(self.non_finite.sum()),
        }
        return {name: count for name, count in counts.items() if count}


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a rate, in percent (Wilson 1927, JASA 22)."""
    if n == 0:
        return 0.0, 100.0
    p, zz = successes / n, z * z / n
    middle = (p + zz / 2) / (1 + zz)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)
