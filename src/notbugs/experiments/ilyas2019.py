"""Ilyas et al. 2019, "Adversarial Examples Are Not Bugs, They Are Features", end to end.

For each seed: a standard and a robust model; from them D_R, D_NR, D_rand, D_det and
D_other, and the leakage-only control of the last three; a fresh model trained on each;
and the same evaluation of all of them on the original test set.

**Source**: arXiv 1905.02175, section 3 and Appendix C. The published numbers beside the
claims are for CIFAR-10 and ResNet-50; robust accuracies at L2 0.25.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from notbugs.experiments.claims import (
    Claim,
    Finding,
    SeedValues,
    at_least,
    at_most,
    exceeds,
)
from notbugs.experiments.config import Config
from notbugs.experiments.plan import Where, plan
from notbugs.experiments.results import check_files, file_names, write_results
from notbugs.experiments.tables import Numbers
from notbugs.store import Observer, Store, run_stages

Measure: TypeAlias = Callable[[Numbers], Finding | None]
MARGIN = 20.0
"""Points by which a set must beat its leakage-only control for a feature claim to pass."""


def _bounded(
    name: str, column: str, decide: Callable[[SeedValues, float], bool | None], bound: float
) -> Measure:
    """The set's number, at the largest radius, against a bound."""

    def measure(numbers: Numbers) -> Finding | None:
        ours = numbers.seeds(name, column)
        control = numbers.seeds(f"leak:{name}", column) or None
        sign = ">=" if decide is at_least else "<="
        if not ours:
            return None
        return _decided_if_learnt(
            numbers, name, ours, control, decide(ours, bound), f"mean {sign} {bound:g}"
        )

    return measure


def _above(name: str, column: str, threshold: float) -> Measure:
    return _bounded(name, column, at_least, threshold)


def _below(name: str, column: str, threshold: float) -> Measure:
    return _bounded(name, column, at_most, threshold)


def _margin(name: str, other: str, column: str, points: float | None = None) -> Measure:
    """The set's number exceeds another's: by a number of points, or at all."""

    def measure(numbers: Numbers) -> Finding | None:
        ours, control = numbers.seeds(name, column), numbers.seeds(other, column)
        if not ours or not control:
            return None
        differences = [a - b for a, b in zip(ours, control, strict=True)]
        holds = exceeds(differences) if points is None else at_least(differences, points)
        rule = "mean - control > 0" if points is None else f"mean - control >= {points:g}"
        return _decided_if_learnt(numbers, name, ours, control, holds, rule)

    return measure


def _decided_if_learnt(
    numbers: Numbers,
    name: str,
    ours: SeedValues,
    control: SeedValues | None,
    holds: bool | None,
    rule: str,
) -> Finding:
    """The finding; undecided where the model is not above chance."""
    rule = f"{rule}, by one-sided 95 % t-intervals over seeds"
    learnt = numbers.learnt(name)
    if learnt or holds is None:
        return Finding(ours, control, holds, rule)
    why = "may be at chance" if learnt is None else "is not above chance"
    return Finding(ours, control, None, f"{rule}; open: the model {why}")


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "adv_robust",
        "Adversarial training makes D_adv more robust than D at eps/2",
        "82.34 against 8.66 (Table of section 3.1)",
        _margin("D_adv", "D", "robust_half_eps"),
    ),
    Claim(
        "r_over_d",
        "Standard training on D_R gives more robustness at eps/2 than standard training on D",
        "48.27 against 8.66 (section 3.1)",
        _margin("D_R", "D", "robust_half_eps"),
    ),
    Claim(
        "r_over_nr",
        "D_R is more robust at eps/2 than D_NR by at least 10 points",
        "48.27 against 0.82 (section 3.1)",
        _margin("D_R", "D_NR", "robust_half_eps", 10.0),
    ),
    Claim(
        "nr_clean",
        "Non-robust features suffice for standard accuracy: D_NR reaches 80 % clean",
        "87.68 (section 3.1)",
        _above("D_NR", "clean", 80.0),
    ),
    Claim(
        "det_true",
        "D_det at its largest eps: at least 60 % on true labels it was never shown",
        "43.7 (section 3.2)",
        _above("D_det", "clean", 60.0),
    ),
    Claim(
        "det_shifted",
        "D_det at its largest eps: at most 25 % on the shifted labels it was shown",
        "not published",
        _below("D_det", "shifted", 25.0),
    ),
    Claim(
        "rand_margin",
        f"D_rand beats its leakage-only control by at least {MARGIN:g} points",
        "63.3; replications without adversarial features reach 75.8-79.5",
        _margin("D_rand", "leak:D_rand", "clean", MARGIN),
    ),
    Claim(
        "det_margin",
        f"D_det beats its leakage-only control by at least {MARGIN:g} points",
        "43.7; replications without adversarial features reach 25-39",
        _margin("D_det", "leak:D_det", "clean", MARGIN),
    ),
    Claim(
        "other_true",
        "D_other, with no true label and every perturbation of size eps: at least 50 % clean",
        "not published",
        _above("D_other", "clean", 50.0),
    ),
    Claim(
        "other_margin",
        f"D_other beats its leakage-only control by at least {MARGIN:g} points",
        "not published",
        _margin("D_other", "leak:D_other", "clean", MARGIN),
    ),
    Claim(
        "planted_r_robust",
        "Known truth: in at least 80 % of D_R the robust feature points to the label",
        "not published (90 % in the original images)",
        _above("D_R", "planted_robust", 80.0),
    ),
    Claim(
        "planted_r_nonrobust",
        "Known truth: in at most 35 % of D_R the non-robust feature does (chance: 25 %)",
        "not published (100 % in the original images)",
        _below("D_R", "planted_nonrobust", 35.0),
    ),
    Claim(
        "planted_det_nonrobust",
        "Known truth: in at least 80 % of D_det the non-robust feature points to the label",
        "not published",
        _above("D_det", "planted_nonrobust", 80.0),
    ),
    Claim(
        "planted_det_robust",
        "Known truth: in at most 35 % of D_det the robust feature does",
        "not published",
        _below("D_det", "planted_robust", 35.0),
    ),
)


def run(
    config: Config,
    store: Store,
    *,
    where: Where,
    out: Path,
    workers: int,
    threads: int = 1,
    observer: Observer,
) -> dict[str, Any]:
    """Runs the experiment, writes `results.json`, models and datasets to `out`, and returns it.

    Stages that the store holds are not computed again; a run that is killed at any moment
    can be resumed and ends with the same numbers.
    """
    stages = plan(config, where)
    check_files(out, file_names(stages))
    summary = run_stages(stages.targets, store, workers=workers, threads=threads, observer=observer)
    return write_results(config, stages, store, summary, CLAIMS, out)
