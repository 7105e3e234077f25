"""Ilyas et al. 2019, "Adversarial Examples Are Not Bugs, They Are Features", end to end.

For each seed: a standard and a robust model; from them D_R, D_NR, D_rand, D_det and
D_other, and the leakage-only control of the last three; a fresh model trained on each;
and the same evaluation of all of them on the original test set.

**Source**: arXiv 1905.02175, section 3 and Appendix C. The published numbers beside the
claims are for CIFAR-10 and ResNet-50; robust accuracies at L2 0.25.
"""

from collections.abc import Iterable, Mapping, Sequence

from notbugs.engine import Threat
from notbugs.engine.threat import radius
from notbugs.experiments import constructed
from notbugs.experiments.config import DATASETS, PRESETS, Config, config_for
from notbugs.experiments.constructed import (
    DATASET,
    AgainstTruth,
    AttackPictures,
    Constructed,
    Evaluated,
    Inverted,
    Leakage,
    SetPictures,
    Targeted,
)
from notbugs.experiments.experiment import Experiment, Row
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Lines, PictureRows, Section, Table
from notbugs.experiments.rules import (
    AbstractRule,
    AnyOf,
    AtLeast,
    AtMost,
    Claim,
    Exceeds,
    Given,
)
from notbugs.experiments.shared import Data, Trained
from notbugs.models.weights import MODEL
from notbugs.store import AnyStage

KINDS = ("rand", "det", "other")
"""The targeted sets: D_rand, D_det and D_other."""
MARGIN = 20.0
"""Points by which a set must beat its leakage-only control for a feature claim to pass."""


def threat(config: Config, eps: float) -> Threat:
    """The run's norm at a radius."""
    return Threat.parse(f"{config.norm}:{eps!r}")


def source(config: Config, seed: int, role: str) -> Trained:
    """The "standard" or the "robust" model, trained on the original images."""
    recipe = config.robust if role == "robust" else config.standard
    return Trained(Data.of(config, seed), config.net, recipe, role)


def sets(config: Config, seed: int) -> dict[str, Constructed]:
    """All constructed sets by the names of their rows."""
    standard, robust = source(config, seed, "standard"), source(config, seed, "robust")
    pushes = config.push_steps, config.push_step_size, config.batch_size, config.precision
    found: dict[str, Constructed] = {
        name: Inverted(model, name, config.inversion, config.batch_size, config.precision)
        for name, model in (("D_R", robust), ("D_NR", standard))
    }
    for kind in KINDS:
        for eps in config.eps_sets:
            at = threat(config, eps)
            found[row_of(config.norm, kind, eps)] = Targeted(standard, kind, at, *pushes)
            found[f"control of {row_of(config.norm, kind, eps)}"] = Leakage(standard.data, kind, at)
    return found


def row_of(norm: str, kind: str, eps: float) -> str:
    """The row of a targeted set."""
    return f"D_{kind} at {radius(norm, eps)}"


def models(config: Config, seed: int) -> dict[str, Trained]:
    """The model of each row: of D, D_adv, and a student of each constructed set.

    All students of a seed start from the same weights and see the images in the same order.
    """
    data = Data.of(config, seed)
    students = {
        name: Trained(data, config.net, config.student, "student", stage)
        for name, stage in sets(config, seed).items()
    }
    own = {"D": source(config, seed, "standard"), "D_adv": source(config, seed, "robust")}
    return {**own, **students}


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    at = threat(config, config.eps_eval)
    for name, model in models(config, seed).items():
        yield Row("sets", name, seed, Evaluated(model, at, config.eval_steps, config.batch_size))
        if config.data == "planted":
            yield Row("planted", name, seed, AgainstTruth(model))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Examples of the sets at their largest radius, and of attacks on both models."""
    largest, built = max(config.eps_sets), sets(config, 0)
    shown = {"D_R": "D_R", "D_NR": "D_NR"}
    shown |= {f"D_{kind}": row_of(config.norm, kind, largest) for kind in KINDS}
    named = tuple((name, built[row]) for name, row in shown.items())
    both = tuple((role, source(config, 0, role)) for role in ("standard", "robust"))
    at = threat(config, config.eps_eval)
    return [
        SetPictures(Data.of(config, 0), named),
        AttackPictures(both, at, config.eval_steps),
    ]


def files(config: Config) -> Mapping[str, tuple[AnyStage, str]]:
    """Models and sets of every seed, by their names in the output folder."""
    found: dict[str, tuple[AnyStage, str]] = {}
    for seed in range(config.seeds):
        for name, model in models(config, seed).items():
            words = name.replace(" of ", "-").replace(" at ", "-eps").replace("/", "of")
            own = {"D": "standard", "D_adv": "robust"}.get(name, f"student-{words}")
            found[f"models/{own}-seed{seed}.safetensors"] = model, MODEL
            if model.on is not None:
                found[f"datasets/{words}-seed{seed}.safetensors"] = model.on, DATASET
    return found


def claims(config: Config) -> Sequence[Claim]:
    """The paper's statements, about the sets at their largest radius."""
    at = max(config.eps_sets)
    rand, det, other = (row_of(config.norm, kind, at) for kind in KINDS)
    before = "with the experiment's first version, for all datasets"
    found = [
        _claim(
            "adv_robust",
            "Adversarial training makes D_adv more robust than D at eps/2",
            "82.34 against 8.66 (table of section 3.1)",
            _compared("D_adv", "D", "robust_half_eps"),
        ),
        _claim(
            "r_over_d",
            "Standard training on D_R gives more robustness at eps/2 than standard training on D",
            "48.27 against 8.66 (section 3.1)",
            _compared("D_R", "D", "robust_half_eps"),
        ),
        _claim(
            "r_over_nr",
            "D_R is more robust at eps/2 than D_NR by at least 10 points",
            "48.27 against 0.82 (section 3.1)",
            _compared("D_R", "D_NR", "robust_half_eps", 10.0),
            before,
        ),
        _claim(
            "nr_clean",
            "Non-robust features suffice for standard accuracy: D_NR reaches 80 % clean",
            "87.68 (section 3.1)",
            AtLeast(_cell("D_NR", "clean"), 80.0),
            "the paper's number, less for smaller nets and fewer images",
        ),
        _claim(
            "det_true",
            "D_det at its largest eps: at least 60 % on true labels it was never shown",
            "43.7 (section 3.2)",
            AtLeast(_cell(det, "clean"), 60.0, _cell(f"control of {det}", "clean")),
            before,
        ),
        _claim(
            "det_shifted",
            "D_det at its largest eps: at most 25 % on the shifted labels it was shown",
            "not published",
            AtMost(_cell(det, "shifted"), 25.0, _cell(f"control of {det}", "shifted")),
            before,
        ),
        _claim(
            "rand_margin",
            f"D_rand beats its leakage-only control by at least {MARGIN:g} points",
            "63.3 (section 3.2); replications without adversarial features reach 75.8-79.5",
            _compared(rand, f"control of {rand}", "clean", MARGIN),
            before,
        ),
        _claim(
            "det_margin",
            f"D_det beats its leakage-only control by at least {MARGIN:g} points",
            "43.7 (section 3.2); replications without adversarial features reach 25-39",
            _compared(det, f"control of {det}", "clean", MARGIN),
            before,
        ),
        _claim(
            "other_true",
            "D_other, with no true label and every perturbation of size eps: at least 50 % clean",
            "not published",
            AtLeast(_cell(other, "clean"), 50.0, _cell(f"control of {other}", "clean")),
            before,
        ),
        _claim(
            "other_margin",
            f"D_other beats its leakage-only control by at least {MARGIN:g} points",
            "not published",
            _compared(other, f"control of {other}", "clean", MARGIN),
            before,
        ),
    ]
    return found + (_known_truth(det) if config.data == "planted" else [])


def _known_truth(det: str) -> list[Claim]:
    """Claims that the planted features decide."""
    fixed = "with the experiment's first version; original images have 90 and 100 %"
    return [
        _claim(
            "planted_r_robust",
            "Known truth: in at least 80 % of D_R the robust feature points to the label",
            "not published (90 % in the original images)",
            AtLeast(Cell("planted", "D_R", "planted_robust"), 80.0),
            fixed,
        ),
        _claim(
            "planted_r_nonrobust",
            "Known truth: in at most 35 % of D_R the non-robust feature does (chance: 25 %)",
            "not published (100 % in the original images)",
            AtMost(Cell("planted", "D_R", "planted_nonrobust"), 35.0),
            fixed,
        ),
        _claim(
            "planted_det_nonrobust",
            "Known truth: in at least 80 % of D_det the non-robust feature points to the label",
            "not published",
            AtLeast(Cell("planted", det, "planted_nonrobust"), 80.0),
            fixed,
        ),
        _claim(
            "planted_det_robust",
            "Known truth: in at most 35 % of D_det the robust feature does",
            "not published",
            AtMost(Cell("planted", det, "planted_robust"), 35.0),
            fixed,
        ),
    ]


def _cell(row: str, column: str) -> Cell:
    return Cell("sets", row, column)


def _compared(row: str, other: str, column: str, points: float | None = None) -> Exceeds:
    return Exceeds(_cell(row, column), _cell(other, column), points)


def _claim(name: str, statement: str, published: str, rule: AbstractRule, fixed: str = "") -> Claim:
    """A claim on a set, which says nothing where the set's model learnt nothing."""
    row = rule.cells[0].row
    chance = _cell(row, "chance")
    above = tuple(Exceeds(_cell(row, column), chance) for column in ("clean", "shifted"))
    learnt = Given(f"the model of {row} is above chance on true or shifted labels", AnyOf(above))
    return Claim(name, statement, published, rule, (learnt,), fixed)


_SHOWN = ("D", "D_R", "D_NR", *(f"D_{kind}" for kind in KINDS))
_BOTH = ("standard", "robust")

SECTIONS = (
    Section(
        "What the models were trained on",
        "A classifier can be fooled by changes too small to matter to a person. The paper's "
        "explanation: it uses patterns that really do predict the label, but that a small change "
        "can turn around (non-robust features). Training sets were built that keep some features "
        "and drop or falsify others, and a fresh model was trained on each. D_R: each image is "
        "changed until the robust model represents it like a training image, whose label it gets; "
        "D_NR: the same with the standard model. D_rand: images changed slightly so that the "
        "standard model takes them for a random class, and so labelled; D_det: for the class "
        "after the true one; D_other: for a random other class, every change of the full size. "
        "Controls have the same images and labels but, for an adversarial change, a fixed random "
        "pattern for each class: what their models learn needs no feature.",
        figures=(
            PictureRows(
                tuple(f"{name}.images" for name in _SHOWN),
                _SHOWN,
                "Random examples of each set, with the label that they are trained with; in colour "
                "where it is not the true one, which is below. A column follows one training image "
                "(if it could not be changed by the full size, another stands in).",
            ),
        ),
    ),
    Section(
        "What they learnt",
        "All models on the same unchanged test images. A high accuracy beside D_det or D_other "
        "means that a model learnt the true classes from labels that all look wrong; it counts as "
        "far as it exceeds the control's. Published numbers are for CIFAR-10 and a ResNet-50: "
        "compare directions, not values. Robust accuracies are those of one attack, PGD of "
        "{eval_steps} steps of a fifth of ε from one random start: upper bounds.",
        figures=(
            Bars(
                "sets",
                ("clean", "robust_half_eps", "robust_eps"),
                "Accuracy on the test images by training set: clean, and under {norm} attacks of "
                "size {eps_eval} (ε) and half of it. Hatched: controls. Dotted: guessing.",
                "accuracy, %",
                chance="chance",
                at_largest=True,
            ),
            Lines(
                "sets",
                ("clean", "shifted"),
                "Models trained on D_det, by the size of its changes: accuracy on true labels, and "
                "on those that it was taught. Where the first is above, a model went by the "
                "changes and not by what people see. Dashed: the leakage-only control.",
                "accuracy, %",
                "size of the changes ({norm}, pixel units)",
                lines=("D_det", "control of D_det"),
                chance="chance",
            ),
            Lines(
                "sets",
                ("clean",),
                "Models trained on D_rand and D_other, by the size of the changes: accuracy on "
                "true labels. Dashed: the leakage-only controls.",
                "accuracy, %",
                "size of the changes ({norm}, pixel units)",
                lines=("D_rand", "control of D_rand", "D_other", "control of D_other"),
                chance="chance",
            ),
            PictureRows(
                (
                    "attacked.images",
                    *(f"{m}.{what}" for m in _BOTH for what in ("difference", "adversarial")),
                ),
                (
                    "image",
                    *(f"{m}: {what}" for m in _BOTH for what in ("change, magnified", "result")),
                ),
                "Test images that the standard model has right, attacked on each model within "
                "{norm} {eps_eval}: the change, magnified until its largest pixel is black or "
                "white, and the result with the model's prediction, in colour where it is fooled.",
            ),
        ),
        tables=(
            Table(
                "sets",
                "All sets (means over seeds; robust accuracy at ε = {norm} {eps_eval}).",
                (
                    "clean",
                    "shifted",
                    "robust_half_eps",
                    "robust_eps",
                    "true_labels",
                    "source_success",
                    "relative_error",
                    "from_original",
                    "distance",
                ),
            ),
        ),
    ),
    Section(
        "Against the known truth",
        "In planted images both features are known, so what each set carries and what each model "
        "follows can be read off.",
        tables=(Table("planted", "Planted features of the sets, and what their models follow."),),
    ),
)

EXPERIMENT = Experiment(
    name="ilyas2019",
    paper="Ilyas, Santurkar, Tsipras, Engstrom, Tran, Madry 2019, “Adversarial Examples Are Not "
    "Bugs, They Are Features” (arXiv 1905.02175)",
    question="Are adversarial examples features?",
    datasets=DATASETS,
    presets=PRESETS,
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=constructed.COLUMNS,
    sections=SECTIONS,
    takes={"digits": 11, "planted": 4, "mnist": 35, "fashion-mnist": 20, "cifar10": 8},
    files=files,
)
