"""The discussion of "Adversarial Examples Are Not Bugs, They Are Features" on Distill, 2019.

All six comments have an experiment here, at our scale and with controls: frequencies (Gilmer and
Hendrycks), leakage through robust features and two examples of useful non-robust ones (Goh), layers
and style (Nakano), examples that are just bugs, squares and poison (Nakkiran), learning from
mistakes alone, from a model of other images, and points of the plane (Wallace).

**Source**: Engstrom et al. 2019, "A discussion of 'Adversarial Examples Are Not Bugs, They Are
Features'", Distill. The published numbers are for CIFAR-10 or ImageNet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.experiments.constructed import Constructed, Leakage, Learnt
from notbugs.experiments.data_views import TwoClasses
from notbugs.experiments.discussion2019_page import COLUMNS, LAYERS, MODELS, SECTIONS
from notbugs.experiments.discussion_examples import MadeFeatures, Points, Styles
from notbugs.experiments.discussion_stages import (
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
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.experiments.visibility import Observers, Seen
from notbugs.store import AnyStage

OTHER = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
"""Datasets whose images are of the same shape."""


@dataclass(frozen=True)
class Config(ModelsConfig):
    """The settings of a run.

    - `cutoffs`: frequencies, cycles a pixel, at which images are split, rising
    - `wave`: L2 size of a wave of the heat maps; `count`: test images for them and for layers
    - `ensemble`: nets that bugs are not to fool
    - `few`: epochs of the model whose mistakes are learnt
    - `pair`: classes of which useful non-robust features are made
    - `styled`: test images that are given another style; `draws`: of points in the plane
    - `other`: a dataset whose images the model labels; "": noise alone
    """

    cutoffs: tuple[float, ...] = (0.15, 0.25)
    wave: float = 2.0
    count: int = 200
    ensemble: int = 5
    few: int = 2
    pair: tuple[int, int] = (3, 8)
    styled: int = 50
    draws: int = 10
    other: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("count", "ensemble", "few", "styled", "draws"):
            check_count(getattr(self, name), name)
        check_positive(self.wave, "wave")
        if len(set(self.pair)) < 2 or min(self.pair) < 0:
            raise bad_value("pair", "be the numbers of two classes", self.pair)
        if not self.cutoffs or list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise bad_value("cutoffs", "rise", self.cutoffs)
        if not 0 < self.cutoffs[0] <= self.cutoffs[-1] < 0.7:
            raise bad_value("cutoffs", "lie above 0 and below 0.7", self.cutoffs)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    config = models_config(Config, data, preset)
    if data != "digits":
        config = replace(config, cutoffs=(0.1, 0.3), wave=4.0, ensemble=3, few=1)
        config = replace(config, other=OTHER[data])
    if preset == "smoke":
        config = replace(config, count=20, ensemble=1, few=1, cutoffs=(0.25,), styled=2, other="")
        config = replace(config, draws=1)
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


def restyled(config: Config, seed: int) -> Styles:
    """Style transfer by both models, and by one before training."""
    of = {role: model(config, seed, role) for role in MODELS}
    named = [(role, net, True) for role, net in of.items()]
    untrained = ("untrained", of["standard"], False)
    return Styles(model(config, seed, "apart"), (*named, untrained), config.styled)


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
    sets: list[tuple[str, Constructed]] = [
        ("mistakes", Mistakes(few)),
        ("mistakes/shuffled", Mistakes(few, shuffled=True)),
    ]
    for other in ("", config.other) if config.other else ("",):
        title = f"{other or 'noise'} images"
        sets.append((title, Foreign(standard, other=other)))
        sets.append((f"{title}/shuffled", Foreign(standard, shuffled=True, other=other)))
    for name, on in sets:
        yield Row("mistakes", name, seed, Learnt((("", student(config, on)),)))
    yield Rows(seed, Squares(seed))
    sizes = config.data, config.digest, seed, config.train_size, config.test_size
    yield Rows(seed, MadeFeatures(TwoClasses(*sizes, pair=config.pair), config.threat))
    yield Rows(seed, restyled(config, seed))
    yield Rows(seed, Points(seed, draws=config.draws))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Heat maps and styles of seed 0."""
    return [*(heat(config, 0, role) for role in MODELS), restyled(config, 0)]


def claims(config: Config) -> Sequence[Claim]:
    """A statement of each comment."""
    before, none = "before any run", "not published"
    last = f"{config.cutoffs[-1]:g}"

    def cell(table: str, row: str, column: str) -> Cell:
        return Cell(table, row, column)

    points = tuple(cell("points", row, "learnt") for row in ("adversarial", "random"))

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
            "ensembles",
            "Features that are weak alone (rho below 0.3) add up to one more useful than the best "
            "of them, and than with drawn signs, and an adversary turns it around",
            "comment of Goh: in figures, trucks and frogs of CIFAR-10",
            AllOf(
                (
                    *(
                        Exceeds(cell("made", "weak, summed", "rho"), cell("made", row, "rho"))
                        for row in ("weak, at best", "drawn signs")
                    ),
                    AtMost(cell("made", "weak, summed", "gamma"), 0.0),
                )
            ),
            fixed="0: before any run; 0.3: after a trial on seeds that no run has",
        ),
        Claim(
            "containment",
            "A robust feature with a useless one added (rho at most 0.1) is useful still, and an "
            "adversary turns it around",
            "comment of Goh: in figures, trucks and frogs of CIFAR-10",
            AllOf(
                (
                    AtLeast(cell("made", "most robust", "gamma"), 0.0),
                    AtMost(cell("made", "useless", "rho"), 0.1),
                    AtLeast(cell("made", "robust and useless", "rho"), 0.3),
                    AtMost(cell("made", "robust and useless", "gamma"), 0.0),
                )
            ),
            fixed="before any run; 0.1: before any run with that row, after a look at one seed",
        ),
        Claim(
            "styles",
            "Style transfer by a robust model comes nearer to a style that another model sees than "
            "that by a standard or an untrained one",
            "comment of Nakano: in pictures, ResNet-50",
            AllOf(
                tuple(
                    Exceeds(cell("styles", "robust", "seen"), cell("styles", row, "seen"))
                    for row in ("standard", "untrained")
                )
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
            "from the same labels in another order",
            "comment of Wallace: 91.0 %, MNIST from images of Fashion-MNIST",
            Exceeds(
                cell("mistakes", "noise images", "clean"),
                cell("mistakes", "noise images/shuffled", "clean"),
                20.0,
            ),
            fixed=before,
        ),
        *(
            [
                Claim(
                    "dataset",
                    f"From images of {config.other} that a model labels, a student learns 20 "
                    "points more of the model's own data than from the same labels in another "
                    "order",
                    "comment of Wallace: 91.0 %, MNIST from images of Fashion-MNIST",
                    Exceeds(
                        cell("mistakes", f"{config.other} images", "clean"),
                        cell("mistakes", f"{config.other} images/shuffled", "clean"),
                        20.0,
                    ),
                    fixed=before,
                )
            ]
            if config.other
            else []
        ),
        Claim(
            "plane",
            "From adversarial points alone, all labelled wrongly, a net learns more than half of "
            "the first points, and more than from points that were moved at random",
            "comment of Wallace: 23 of 32 points",
            AllOf((AtLeast(points[0], 50.0), Exceeds(points[0], points[1]))),
            fixed="chance; after runs without it",
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


def check(config: Config, parts: Splits) -> None:
    """Refuses classes that there are not, and images of another shape."""
    if max(config.pair) >= parts.train.classes:
        remedy = f"Take two of 0..{parts.train.classes - 1}."
        raise bad_value("pair", "be the numbers of two classes", config.pair, remedy)
    fits = OTHER.get(config.data)
    if config.other not in ("", fits):
        known = "be left out" if fits is None else f"be '{fits}' or left out"
        raise bad_value("other", f"{known} for {config.data}", f"'{config.other}'")


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
    takes={"digits": 4},
    check=check,
)
