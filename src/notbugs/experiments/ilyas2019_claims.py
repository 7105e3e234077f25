"""The claims of Ilyas et al. 2019, as rules over the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from notbugs.engine.threat import radius
from notbugs.experiments.config import Config
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import (
    AbstractRule,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Claim,
    Exceeds,
    Given,
)

CARRYING = ("universal", "projected", "cycle")
"""The variants of a targeted set that carry features too: no claim compares with them."""
MARGIN = 20.0
"""Points by which a set must beat each of its controls for a feature claim to pass."""


def claims_of(config: Config, made: Sequence[str], inverted: Mapping[str, Net]) -> Sequence[Claim]:
    """The paper's statements, about the sets that a run has.

    - `made`: the rows of targeted sets and controls
    - `inverted`: the architectures of which D_R is made, by the end of their rows' names
    """
    beside = [net.architecture for net in config.students if net != config.net]
    columns = ["clean", *(f"clean_{architecture}" for architecture in beside)]
    largest = radius(config.norm, max(config.radii))
    found: list[Claim] = []
    for end, net in inverted.items() if "R" in config.sets else ():
        found += _of_inverted(config, end, f"_{net.architecture}" if end else "")
    for name, (words, bound, fixed, published, replications) in TARGETED.items():
        if name not in made:
            continue
        controls = [row for row in made if row.startswith(f"{name}/") or row == f"leak:{name}"]
        margins = [
            Exceeds(Cell("sets", name, column), Cell("sets", row, column), MARGIN)
            for column in columns
            for row in controls
            if row.partition("/")[2] not in CARRYING
        ]
        if bound is not None:
            true = [AtLeast(Cell("sets", name, column), bound) for column in columns]
            words = f"{words}: every student has at least {bound:g} % of the true labels"
            found.append(_claim(f"{name[2:]}_true", words, published, AllOf(tuple(true)), fixed))
        words = (
            f"{name} beats each control by at least {MARGIN:g} points, for every student (of the "
            f"rows {name}/..., all but {', '.join(CARRYING)}, which carry features)"
        )
        if margins:
            rule, source = AllOf(tuple(margins)), published + replications
            found.append(_claim(f"{name[2:]}_margin", words, source, rule, MARGIN_FIXED))
    if "D_det" in made and max(config.radii) > config.headline:
        words = (
            f"D_det at radius {largest}, the largest, where the changes can be seen: every student "
            "has more true than shifted labels"
        )
        cells = [Cell("radii", f"D_det at {largest}", column) for column in columns]
        shifted = [replace(c, column=c.column.replace("clean", "shifted")) for c in cells]
        rule = AllOf(tuple(map(Exceeds, cells, shifted)))
        found.append(_claim("det_crossover", words, "not published", rule))
    return found + (_known_truth(config, largest) if config.data == "planted" else [])


BEFORE = (
    "with the experiment's first version, at the largest radius and for a student like the source"
)
MARGIN_FIXED = (
    "with the experiment's first version, against the leakage-only control at the largest radius; "
    "other controls, students and this radius came later"
)
TARGETED: Mapping[str, tuple[str, float | None, str, str, str]] = {
    "D_other": (
        "D_other, with no true label and every change of the full size",
        50.0,
        BEFORE,
        "not published",
        "",
    ),
    "D_noise": (
        "D_noise, which holds no image",
        50.0,
        "that of D_other, after pilot runs on validation images",
        "not published",
        "",
    ),
    "D_det": (
        "D_det, with no true label",
        60.0,
        BEFORE,
        "43.7 (section 3.2)",
        "; replications without adversarial features reach 25-39",
    ),
    "D_rand": (
        "D_rand",
        None,  # a tenth of its labels is true: what counts is the margin
        "",
        "63.3 (section 3.2)",
        "; replications without adversarial features reach 75.8-79.5",
    ),
}
"""The claims' sets: in words, percent of true labels asked for and when that was fixed, what is
published of the set, and of its replications."""


def _of_inverted(config: Config, end: str, name: str) -> list[Claim]:
    """Claims of D_R, D_NR and D_adv, of an architecture by the ends of rows' and claims' names."""
    half = "robust_half_eps"
    d, d_adv, d_r, d_nr = (f"{row}{end}" for row in ("D", "D_adv", "D_R", "D_NR"))
    found = [
        _claim(
            f"adv_robust{name}",
            f"Adversarial training makes {d_adv} more robust than {d} at eps/2",
            "82.34 against 8.66 (table of section 3.1)",
            _compared(d_adv, d, half),
        ),
        _claim(
            f"r_over_d{name}",
            f"Standard training on {d_r} gives more robustness at eps/2 than on {d}",
            "48.27 against 8.66 (section 3.1)",
            _compared(d_r, d, half),
        ),
        _claim(
            f"r_over_d_eps{name}",
            f"At eps itself {d_r} gives more robustness than {d} too",
            "21.85 against 0.0 (table 7)",
            _compared(d_r, d, "robust_eps"),
        ),
        _claim(
            f"r_over_nr{name}",
            f"{d_r} is more robust at eps/2 than {d_nr} by at least 10 points",
            "48.27 against 0.82 (section 3.1)",
            _compared(d_r, d_nr, half, 10.0),
            "with the experiment's first version",
        ),
        _claim(
            f"nr_clean{name}",
            "A set made from the standard model's representation suffices: "
            f"{d_nr} reaches 80 % clean",
            "87.68 (section 3.1)",
            AtLeast(Cell("robust", d_nr, "clean"), 80.0),
            "the paper's number, less for smaller nets and fewer images",
        ),
    ]
    if config.judged:
        words = f"{d_r} gives more robustness than {d} by the standard evaluation as well"
        rule = _compared(d_r, d, "standard_half_eps")
        found.append(_claim(f"r_over_d_standard{name}", words, "not published", rule))
    return found


def _known_truth(config: Config, largest: str) -> list[Claim]:
    """Claims that the planted features decide; of D_det at its largest radius."""
    sets = {"r": "D_R"} if "R" in config.sets else {}
    sets |= {"det": f"D_det at {largest}"} if "det" in config.sets else {}
    carried = {"r": "robust", "det": "nonrobust"}
    words = {"robust": "robust", "nonrobust": "non-robust"}
    original = {"robust": 90, "nonrobust": 100}
    found: list[Claim] = []
    for name, row in sets.items():
        for feature in ("robust", "nonrobust"):
            cell = Cell("planted", row, f"planted_{feature}")
            carries = feature == carried[name]
            rule = AtLeast(cell, 80.0) if carries else AtMost(cell, 35.0)
            share = "at least 80 %" if carries else "at most 35 % (chance: 25 %)"
            found.append(
                _claim(
                    f"planted_{name}_{feature}",
                    f"Known truth: in {share} of {row} the {words[feature]} feature points to the "
                    "label",
                    f"not published (original images: {original[feature]} %)",
                    rule,
                    "with the experiment's first version",
                )
            )
    return found


def _compared(row: str, other: str, column: str, points: float | None = None) -> Exceeds:
    return Exceeds(Cell("robust", row, column), Cell("robust", other, column), points)


def _claim(name: str, statement: str, published: str, rule: AbstractRule, fixed: str = "") -> Claim:
    """A claim on a set, which says nothing where the set's model learnt nothing."""
    first = rule.cells[0]
    if first.table == "planted":  # of the images, whatever a model makes of them
        return Claim(name, statement, published, rule, (), fixed)
    columns = ("clean",) if first.table == "robust" else ("clean", "shifted")
    chance = Cell(first.table, first.row, "chance")
    above = tuple(Exceeds(Cell(first.table, first.row, c), chance) for c in columns)
    learnt = Given(f"the model of {first.row} is above chance", AnyOf(above))
    return Claim(name, statement, published, rule, (learnt,), fixed)
