"""Engstrom et al. 2019, "Adversarial Robustness as a Prior for Learned Representations".

For each seed: inversion, interpolation, visualisation (with and without priors) and manipulation
of the main experiment's standard and robust model, judged by a third model; and the frequencies of
their gradients and pictures.

**Source**: arXiv 1906.00945; the priors, Olah et al. 2017; checkerboards, Odena et al. 2016. The
paper shows pictures and gives no table: the claims are its statements, put as inequalities.
**Differs from the paper**: one solver for inversion, interpolation and manipulation (the paper's
have step lengths of their own; manipulation here asks for a rise, not for R_i = 1); visualisation
takes steps of side / 224, the paper's 1 for its size of image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from notbugs.experiments.claims import FEWEST, Claim, Finding, at_least, at_most, exceeds, mean
from notbugs.experiments.engstrom.graph import graph
from notbugs.experiments.engstrom.measurements import VARIANTS
from notbugs.experiments.engstrom.outcome import SeedNumbers, file_names, write_outcome
from notbugs.experiments.engstrom.settings import EngstromConfig
from notbugs.experiments.plan import Where
from notbugs.experiments.results import check_files
from notbugs.store import Observer, Store, run_stages

LOW = 0.1
"""Relative representation error that counts as low."""

BY = "by one-sided 95 % t-intervals over seeds"

Measure = Callable[[SeedNumbers], Finding | None]


def _gain(start: str, column: str, sign: int) -> Measure:
    """The robust model's images are nearer, by more than two standard errors in every seed."""
    row = f"robust - standard, from {start}"

    def measure(numbers: SeedNumbers) -> Finding | None:
        gains = numbers.seeds("gain", row, column)
        errors = numbers.seeds("gain", row, f"{column}_error")
        ours = numbers.seeds("inversion", f"robust, from {start}", column)
        control = numbers.seeds("inversion", f"standard, from {start}", column)
        if not gains or not errors or not ours:
            return None
        nearer = all(sign * g > 2 * e for g, e in zip(gains, errors, strict=True))
        holds = nearer if len(gains) >= FEWEST else None
        rule = "in every seed, mean difference over images > 2 standard errors"
        return Finding(ours, control, holds, rule)

    return measure


def _low(row: str) -> Measure:
    def measure(numbers: SeedNumbers) -> Finding | None:
        ours = numbers.seeds("inversion", row, "relative_error")
        control = numbers.seeds("inversion", row, "start_error")
        rule = f"mean <= {LOW:g}, {BY}"
        return Finding(ours, control, at_most(ours, LOW), rule) if ours else None

    return measure


def _compared(table: str, row: str, other_row: str, column: str, sign: int) -> Measure:
    """sign * (mine - other) > 0, by paired seeds."""

    def measure(numbers: SeedNumbers) -> Finding | None:
        ours, control = numbers.seeds(table, row, column), numbers.seeds(table, other_row, column)
        if not ours or not control:
            return None
        differences = [sign * (a - b) for a, b in zip(ours, control, strict=True)]
        return Finding(ours, control, exceeds(differences), _rule(sign))

    return measure


def _best_prior(column: str) -> Measure:
    """The robust model without any prior against the standard one with the best of them."""

    def measure(numbers: SeedNumbers) -> Finding | None:
        ours = numbers.seeds("visualisation", "robust, no prior", column)
        others = [numbers.seeds("visualisation", f"standard, {v}", column) for v in VARIANTS[1:]]
        others = [o for o in others if len(o) == len(ours)]
        if not ours or not others:
            return None
        best = max(others, key=mean)
        holds = at_least([a - b for a, b in zip(ours, best, strict=True)], 0.0)
        return Finding(ours, best, holds, f"mean >= mean of the best prior, {BY}")

    return measure


def _uneven(numbers: SeedNumbers) -> Finding | None:
    ours = numbers.seeds("downsampling", "generator, uneven", "picture_board")
    control = numbers.seeds("downsampling", "generator, resize", "picture_board")
    if not ours or not control:
        return None
    stronger, present = (
        exceeds([a - b for a, b in zip(ours, control, strict=True)]),
        exceeds(ours, 1),
    )
    holds = False if stronger is False or present is False else (stronger and present)
    rule = f"mean > 1 (there is one), and mean difference > 0, {BY}"
    return Finding(ours, control, holds, rule)


def _rule(sign: int) -> str:
    side = "above" if sign > 0 else "below"
    return f"mean difference {side} 0, {BY}"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "invert_standard",
        "Standard model: inversion from noise reaches a low representation error",
        "shown for both models (section 3)",
        _low("standard, from noise"),
    ),
    Claim(
        "invert_robust",
        "Robust model: inversion from noise reaches a low representation error",
        "shown for both models (section 3)",
        _low("robust, from noise"),
    ),
    Claim(
        "invert_standard_other",
        "Standard model: inversion from another image reaches a low representation error",
        "shown (section 3)",
        _low("standard, from another image"),
    ),
    Claim(
        "invert_robust_other",
        "Robust model: inversion from another image reaches a low representation error",
        "shown (section 3)",
        _low("robust, from another image"),
    ),
    Claim(
        "nearer_ssim",
        "From noise, the robust model's images end closer to the target in SSIM",
        "only the robust model's look like the target (section 3)",
        _gain("noise", "ssim", +1),
    ),
    Claim(
        "nearer_lpips",
        "From noise, they end closer to the target in LPIPS, as a third model sees it",
        "only the robust model's look like the target (section 3)",
        _gain("noise", "lpips", -1),
    ),
    Claim(
        "nearer_other_ssim",
        "From another image, they end closer to the target in SSIM",
        "shown (section 3)",
        _gain("another image", "ssim", +1),
    ),
    Claim(
        "nearer_other_lpips",
        "From another image, they end closer to the target in LPIPS",
        "shown (section 3)",
        _gain("another image", "lpips", -1),
    ),
    Claim(
        "interpolation_natural",
        "Frames between two images look more natural through the robust representation",
        "shown (section 4.2)",
        _compared("interpolation", "robust", "standard", "unnatural", -1),
    ),
    Claim(
        "visual_smooth",
        "Without priors, the robust model's visualisations hold less high-frequency energy",
        "shown (section 4.1)",
        _compared(
            "visualisation", "robust, no prior", "standard, no prior", "high_frequencies", -1
        ),
    ),
    Claim(
        "visual_recognised",
        "Without priors, the nearest training images recognise the robust model's classes better",
        "shown (section 4.1)",
        _compared("visualisation", "robust, no prior", "standard, no prior", "neighbours", +1),
    ),
    Claim(
        "needs_no_prior",
        "Without priors they recognise them at least as well as the standard model's with the "
        "best prior",
        "stated (section 4.1)",
        _best_prior("neighbours"),
    ),
    Claim(
        "manipulation",
        "Adding a class's best coordinate turns more of the robust model's images into the class "
        "(nearest training images)",
        "shown (section 4.3)",
        _compared("manipulation", "robust, +2", "standard, +2", "neighbours", +1),
    ),
    Claim(
        "gradient_smooth",
        "The robust model's input gradients hold less high-frequency energy",
        "not published",
        _compared("gradients", "robust", "standard", "high_frequencies", -1),
    ),
    Claim(
        "resize_convolution",
        "A generator of uneven transposed convolutions leaves a stronger checkerboard than one "
        "that resizes and convolves",
        "shown (Odena et al. 2016)",
        _uneven,
    ),
)


def run(
    settings: EngstromConfig,
    store: Store,
    *,
    where: Where,
    out: Path,
    workers: int,
    threads: int = 1,
    observer: Observer,
) -> dict[str, Any]:
    """Runs the experiment, writes `results.json`, pictures and models to `out`, and returns it.

    Stages that the store holds are not computed again (a store shared with the main experiment
    has both models already); a run that is killed at any moment can be resumed.
    """
    stages = graph(settings, where)
    check_files(out, file_names(stages))
    summary = run_stages(stages.targets, store, workers=workers, threads=threads, observer=observer)
    return write_outcome(settings, stages, store, summary, CLAIMS, out)
