"""The discussion of "Adversarial Examples Are Not Bugs, They Are Features" on Distill, 2019.

Of the six comments these have an experiment here, at our scale and with controls: frequencies
(Gilmer and Hendrycks), leakage through robust features (Goh), layers (Nakano), examples that are
just bugs, squares and poison (Nakkiran), learning from mistakes alone and from a model of nothing
natural (Wallace).

**Source**: Engstrom et al. 2019, "A discussion of 'Adversarial Examples Are Not Bugs, They Are
Features'", Distill. The published numbers are for CIFAR-10 or ImageNet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.experiments.constructed import COLUMNS as OF_SETS
from notbugs.experiments.constructed import Leakage, Learnt
from notbugs.experiments.discussion_stages import (
    SQUARE_EPS,
    Before,
    Bugs,
    BugTransfer,
    Filtered,
    Foreign,
    HeatMap,
    Layers,
    Mistakes,
    OnFiltered,
    Squares,
    TrueLabels,
)
from notbugs.experiments.experiment import Experiment, Row, Rows
from notbugs.experiments.main_models import (
    ModelsConfig,
    at_random,
    model,
    models_config,
    student,
    targeted,
)
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Column, Lines, PictureRows, Section, Table
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.experiments.visibility import COLUMNS as OF_OBSERVERS
from notbugs.experiments.visibility import Observers, Seen
from notbugs.store import AnyStage

MODELS = ("standard", "robust")
LAYERS = ("embedding", "logits")


@dataclass(frozen=True)
class Config(ModelsConfig):
    """The settings of a run.

    - `cutoffs`: frequencies, cycles a pixel, at which images are split, rising
    - `wave`: L2 size of a wave of the heat maps; `count`: test images for them and for layers
    - `ensemble`: nets that bugs are not to fool
    - `few`: epochs of the model whose mistakes are learnt
    """

    cutoffs: tuple[float, ...] = (0.15, 0.25)
    wave: float = 2.0
    count: int = 200
    ensemble: int = 5
    few: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("count", "ensemble", "few"):
            check_count(getattr(self, name), name)
        check_positive(self.wave, "wave")
        if not self.cutoffs or list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise bad_value("cutoffs", "rise", self.cutoffs)
        if not 0 < self.cutoffs[0] <= self.cutoffs[-1] < 0.7:
            raise bad_value("cutoffs", "lie above 0 and below 0.7", self.cutoffs)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    config = models_config(Config, data, preset)
    if data != "digits":
        config = replace(config, cutoffs=(0.05, 0.1, 0.2, 0.3), wave=4.0, few=1)
    if preset == "smoke":
        config = replace(config, count=40, ensemble=1, few=1, cutoffs=(0.25,))
    return config


def hasty(config: Config, seed: int) -> Trained:
    """A model that was trained for a few epochs."""
    recipe = replace(config.standard, epochs=config.few, warmup=0.0)
    return Trained(Data.of(config, seed), config.net, recipe, "hasty")


def bugs(config: Config, seed: int, count: int) -> Bugs:
    """Examples that an ensemble of `count` nets still has right; of none, ordinary ones."""
    others = tuple(model(config, seed, f"member {i}") for i in range(count))
    return Bugs(model(config, seed, "standard"), others, config.threat, config.steps)


def heat(config: Config, seed: int, role: str) -> HeatMap:
    """Errors of a model under waves."""
    return HeatMap(role, model(config, seed, role), config.wave, config.count)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    data, standard = Data.of(config, seed), model(config, seed, "standard")
    for cutoff in config.cutoffs:
        for name, high in (("high", True), ("low", False)):
            on = Filtered(data, cutoff, high)
            yield Row("bands", f"{name} at {cutoff:g}", seed, OnFiltered(student(config, on), on))
    for role in MODELS:
        of = model(config, seed, role)
        yield Rows(seed, heat(config, seed, role))
        yield Rows(
            seed, Layers(role, of, LAYERS, config.threat.scaled(0.5), config.steps, config.count)
        )
    observers = Observers(model(config, seed, "apart"), model(config, seed, "robust"), None)
    for kind in ("rand", "det", "other"):
        for name, on in (
            (f"D_{kind}", targeted(config, standard, kind)),
            (f"leak:D_{kind}", Leakage(data, kind, config.threat)),
        ):
            yield Row("leakage", name, seed, Learnt((("", student(config, on)),)))
            yield Row("leakage", name, seed, Seen(on, observers))
    for name, on in (
        ("ordinary", bugs(config, seed, 0)),
        ("just bugs", bugs(config, seed, config.ensemble)),
    ):
        yield Row("bugs", name, seed, BugTransfer(on, model(config, seed, "fresh")))
        yield Row("bugs", name, seed, Learnt((("", student(config, on)),)))
    det = targeted(config, standard, "det")
    for name, made in (
        ("poison", det),
        ("poison/random", at_random(config, standard, "det")),
    ):
        of = student(config, TrueLabels(made))
        yield Row("poison", name, seed, Learnt((("", of),)))
        yield Row("poison", name, seed, Before(of))
    few = hasty(config, seed)
    for name, on in (
        ("mistakes", Mistakes(few)),
        ("mistakes/shuffled", Mistakes(few, shuffled=True)),
        ("noise images", Foreign(standard)),
        ("noise images/untrained", Foreign(standard, trained=False)),
    ):
        yield Row("mistakes", name, seed, Learnt((("", student(config, on)),)))
    yield Rows(seed, Squares(seed))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Heat maps of seed 0."""
    return [heat(config, 0, role) for role in MODELS]


def claims(config: Config) -> Sequence[Claim]:
    """A statement of each comment."""
    before, none = "before any run", "not published"
    last = f"{config.cutoffs[-1]:g}"

    def cell(table: str, row: str, column: str) -> Cell:
        return Cell(table, row, column)

    return [
        Claim(
            "bands",
            f"Frequencies above {last} alone give more than half of the test images",
            "comment of Gilmer and Hendrycks: over 50 %, ImageNet",
            AtLeast(cell("bands", f"high at {last}", "in_band"), 50.0),
            fixed=before,
        ),
        Claim(
            "waves",
            "A robust model loses less to waves of high frequency than a standard one",
            "comment of Gilmer and Hendrycks, in pictures",
            Below(cell("waves", "robust", "high_lost"), cell("waves", "standard", "high_lost")),
        ),
        Claim(
            "leakage",
            "Robust features give away more of D_rand than of D_det, and little of D_other (at "
            "most 20 %)",
            "comment of Goh: 23.5 against 6.81 %, CIFAR-10",
            AllOf(
                (
                    Exceeds(
                        cell("leakage", "D_rand", "robust_probe"),
                        cell("leakage", "D_det", "robust_probe"),
                    ),
                    AtMost(cell("leakage", "D_other", "robust_probe"), 20.0),
                )
            ),
            fixed=before,
        ),
        Claim(
            "layers",
            "An attack moves a robust model's embedding less than a standard model's, beside the "
            "distances of images",
            "comment of Nakano, in pictures",
            Below(
                cell("layers", "robust", "moved_embedding"),
                cell("layers", "standard", "moved_embedding"),
            ),
        ),
        Claim(
            "untransferred",
            "Examples that fool the source and not an ensemble exist: of test images at least "
            "80 %, of which the ensemble keeps 90 %; a net apart takes 10 % at most for the class",
            "comment of Nakkiran: 98.6 and 0.8 %, CIFAR-10, Linf 8/255",
            AllOf(
                (
                    AtLeast(cell("bugs", "just bugs", "fooled"), 80.0),
                    AtLeast(cell("bugs", "just bugs", "kept"), 90.0),
                    AtMost(cell("bugs", "just bugs", "transfer"), 10.0),
                )
            ),
            fixed=before,
        ),
        Claim(
            "bugs",
            "They teach a student fewer true labels than ordinary ones do",
            "comment of Nakkiran: 2.5 against 23.7 %",
            Below(cell("bugs", "just bugs", "clean"), cell("bugs", "ordinary", "clean")),
            needs=("untransferred",),
        ),
        Claim(
            "poison",
            "With true labels, perturbations towards the next class cost a student 20 points more "
            "than random ones",
            none,
            Exceeds(
                cell("poison", "poison/random", "clean"), cell("poison", "poison", "clean"), 20.0
            ),
            fixed=before,
        ),
        Claim(
            "mistakes",
            "From a model's mistakes alone, all labelled wrongly, a student learns 20 points more "
            "than from drawn wrong labels",
            "comment of Wallace: 49.7 %, CIFAR-10",
            Exceeds(
                cell("mistakes", "mistakes", "clean"),
                cell("mistakes", "mistakes/shuffled", "clean"),
                20.0,
            ),
            fixed=before,
        ),
        Claim(
            "foreign",
            "From noise that a model labels, a student learns 20 points more of real images than "
            "from noise that an untrained one labels",
            "comment of Wallace: 91.0 %, MNIST from images of Fashion-MNIST",
            Exceeds(
                cell("mistakes", "noise images", "clean"),
                cell("mistakes", "noise images/untrained", "clean"),
                20.0,
            ),
            fixed=before,
        ),
        Claim(
            "squares",
            "A linear classifier that fits all labels, a tenth of them wrong, is turned by changes "
            "of 0.01 in half of its right points; one after one step, and one that has no wrong "
            "labels to fit, by 0.8 in at most 5 %",
            "comment of Nakkiran, in a picture",
            AllOf(
                (
                    AtLeast(cell("squares", "all labels fitted", "flips_0.01"), 50.0),
                    AtMost(cell("squares", "one step", "flips_0.8"), 5.0),
                    AtMost(cell("squares", "no wrong labels", "flips_0.8"), 5.0),
                )
            ),
            fixed="before any run of the paper, after a trial of one seed",
        ),
    ]


COLUMNS = OF_SETS | OF_OBSERVERS | {
    "in_band": Column("In band", "test images with these frequencies alone, right", unit="%"),
    "low": Column("Low", "error under waves below 0.25 cycles a pixel", unit="%"),
    "high": Column("High", "error under waves from 0.25 on", unit="%"),
    "kept": Column("Kept", "that the whole ensemble has right", unit="%"),
    "high_lost": Column("High, lost", "less the error without waves", unit="%"),
    "fooled": Column("Fooled", "test images that the source takes for the next class", unit="%"),
    "transfer": Column("Transfer", "that a net apart takes for it", unit="%"),
    "before": Column("Before", "test images taken for the class before theirs", unit="%"),
    "fitted": Column("Fitted", "labels of training points", unit="%"),
    "right": Column("Right", "test points", unit="%"),
} | {
    f"moved_{layer}": Column(f"R({layer})", "1: as far as to another image", 3) for layer in LAYERS
} | {
    f"flips_{eps:g}": Column(f"Linf {eps:g}", "right points that are turned", unit="%")
    for eps in SQUARE_EPS
}  # fmt: skip

SECTIONS = (
    Section(
        "Frequencies (Gilmer and Hendrycks)",
        "Nets trained and tested on some frequencies alone. Heat maps: the error of a model when a "
        "wave of one frequency, L2 {wave}, is added to every image.",
        figures=(
            Lines(
                "bands",
                ("in_band",),
                "Trained and tested in a band.",
                "right, %",
                "cutoff, cycles a pixel",
            ),
            PictureRows(
                tuple(f"heat.{role}" for role in MODELS),
                MODELS,
                "Errors under waves, white is 100 %; frequency 0 in the middle. Seed 0.",
            ),
        ),
        tables=(Table("bands", "Frequencies alone."), Table("waves", "Under waves.")),
    ),
    Section(
        "Leakage through robust features (Goh)",
        "What a linear classifier of a robust net's embedding learns of the true labels from a set "
        "whose labels are wrong, beside what a whole net learns.",
        tables=(
            Table(
                "leakage",
                "True labels of test images.",
                ("clean", "shifted", "robust_probe", "true_labels"),
            ),
        ),
    ),
    Section(
        "Layers (Nakano)",
        "R(f): how far an attack moves a layer's output, in units of the mean distance of two "
        "images' outputs.",
        tables=(Table("layers", "Attacks of half the radius of the sets."),),
    ),
    Section(
        "Just bugs, poison, squares (Nakkiran)",
        "Bugs are adversarial for the source while {ensemble} other nets stay right; students "
        "learn from them as from D_det. Poison: perturbations towards the next class, true labels.",
        figures=(
            Bars(
                "bugs", ("clean", "shifted"), "What students of each learn.", "%", chance="chance"
            ),
        ),
        tables=(
            Table(
                "bugs",
                "Towards the next class.",
                ("fooled", "kept", "transfer", "clean", "shifted"),
            ),
            Table("poison", "True labels, moved images.", ("clean", "before", "true_labels")),
            Table("squares", "Points that a linear rule tells apart within Linf 0.9."),
        ),
    ),
    Section(
        "Mistakes and noise (Wallace)",
        "The training images that a model of {few} epochs has wrong, labelled as it takes them; "
        "and images of uniform noise, labelled by a model of real ones.",
        tables=(Table("mistakes", "Students on test images.", ("clean", "images", "true_labels")),),
    ),
)

EXPERIMENT = Experiment(
    name="discussion2019",
    paper="Engstrom et al. 2019, A discussion of 'Adversarial Examples Are Not Bugs' (Distill)",
    question="Do the objections to non-robust features hold?",
    datasets=("digits", "mnist", "fashion-mnist"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
)
