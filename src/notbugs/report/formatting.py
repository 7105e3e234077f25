"""Names and text formats of the report: sets, columns, numbers, durations, verdicts."""

from dataclasses import dataclass

from notbugs.engine.threat import radius
from notbugs.experiments.claims import FEWEST
from notbugs.report.reading import CONTROL, SetRow

NONE = "–"
"""Shown where a number does not apply."""

NORM_NAMES = {"l2": "L2", "linf": "L∞", "l1": "L1", "l0": "L0"}

SHORT = {
    "D": "original",
    "D_adv": "adversarial\ntraining",
    "D_R": "robust\nfeatures",
    "D_NR": "non-robust\nfeatures",
    "D_rand": "pushed to a\nrandom class",
    "D_det": "pushed to\nclass y + 1",
    "D_other": "pushed to\nanother class",
}

LONG = {
    "D": "The original training images with their true labels, trained the standard way.",
    "D_adv": "The same images and labels, trained on attacked images (adversarial training): "
    "the robust model.",
    "D_R": "Each image starts as an unrelated one and is changed until the robust model "
    "represents it like a training image, whose true label it gets. Features that only a "
    "standard model uses are not carried over.",
    "D_NR": "Made in the same way, but to match the representation of the standard model.",
    "D_rand": "Training images changed slightly so that the standard model takes them for a "
    "randomly drawn class t, and labelled t. About one image in {k} keeps its true label.",
    "D_det": "As D_rand, but t is always the class after the true one (y + 1): to a person, "
    "every label is wrong, and wrong in the same way.",
    "D_other": "As D_rand, but t is never the true class, and every change has the full size ε: "
    "no label is true, and none follows from the image that a person sees.",
    "leak": "Leakage-only control: the same images, targets and labels, but instead of an "
    "adversarial change a fixed random pattern for each class. What its student learns "
    "needs no feature of the standard model.",
}


@dataclass(frozen=True)
class Column:
    """The heading, explanation and unit of a column."""

    head: str
    help: str
    percent: bool = True


COLUMNS = {
    "clean": Column("Clean", "accuracy on unchanged test images with their true labels"),
    "shifted": Column("Shifted", "accuracy if y + 1 counted as the right label"),
    "robust_half_eps": Column(
        "Robust ε/2", "accuracy under attack at half of ε; ≤: a masking check fires"
    ),
    "robust_eps": Column("Robust ε", "accuracy under attack at ε; ≤: a masking check fires"),
    "true_labels": Column("True labels", "training labels that are the true class"),
    "source_success": Column(
        "Source fooled", "images that the standard model does take for their new label"
    ),
    "relative_error": Column(
        "Match error", "how far the representation stays from its target, relative", percent=False
    ),
    "distance": Column("Distance", "mean size of the change, in the norm of ε", percent=False),
    "from_original": Column(
        "From original",
        "mean L2 distance from the image it represents (near 0: a copy)",
        percent=False,
    ),
    "planted_robust": Column(
        "Robust feature", "images whose planted robust feature points to the training label"
    ),
    "planted_nonrobust": Column(
        "Non-robust feature", "images whose planted non-robust feature points to the training label"
    ),
    "model_robust": Column(
        "Model: robust", "predictions that follow the robust feature where the two disagree"
    ),
    "model_nonrobust": Column(
        "Model: non-robust", "predictions that follow the non-robust feature where they disagree"
    ),
}


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


def base_name(name: str) -> str:
    """The name of the set, without the prefix of a control."""
    return name.removeprefix(CONTROL)


def math_name(name: str) -> str:
    """A set's name in matplotlib's math syntax; unknown names stay as they are."""
    stem, _, index = base_name(name).partition("_")
    if stem != "D" or not all(c.isalnum() for c in index):
        return base_name(name).replace("$", r"\$")
    return rf"$D_{{\mathrm{{{index}}}}}$" if index else "$D$"


def short_text(name: str) -> str:
    """A short description of a set; empty for an unknown one."""
    return SHORT.get(base_name(name), "")


def norm_name(norm: str) -> str:
    """A norm's usual notation: L2, L∞."""
    return NORM_NAMES.get(norm, norm)


def eps_text(norm: str, eps: float | None) -> str:
    """A radius in pixel units; Linf radii on the 8-bit grid as a fraction of 255."""
    return NONE if eps is None else radius(norm, eps)


def number(value: float | None, *, percent: bool = True) -> str:
    """A number for a table: one decimal for percent, three else."""
    return NONE if value is None else f"{value:.{1 if percent else 3}f}"


def with_spread(value: float | None, std: float | None, *, percent: bool = True) -> str:
    """A mean with its deviation, as 62.5 ± 0.9; the mean alone where there is none."""
    text = number(value, percent=percent)
    return text if value is None or std is None else f"{text} ± {number(std, percent=percent)}"


def any_number(value: float | None, std: float | None = None) -> str:
    """A number of any unit and size with three digits, and its deviation."""
    if value is None:
        return NONE
    text = f"{value:.3g}"
    return text if std is None else f"{text} ± {std:.2g}"


def cell(row: SetRow, column: str) -> str:
    """A row's number in a column, with its deviation; "≤" before an upper bound."""
    percent = column_of(column).percent
    text = with_spread(row.mean(column), row.std(column), percent=percent)
    return f"≤ {text}" if row.is_upper_bound(column) else text


def column_of(column: str) -> Column:
    """The format of a column; an unknown one is shown under its own name."""
    return COLUMNS.get(column, Column(column, "", percent=False))


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
