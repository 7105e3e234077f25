"""Encoders that never saw a label: can they be fooled, and do their perturbations teach classes?

Autoencoders of several kinds: what their codes hold; attacks that move a code, or a reconstruction,
to another image's; the set D_other with an encoder in the place of a classifier, and students that
learn from it; and which directions of a code an encoder amplifies.

**Source**: the questions are those of the post "The Structure of Adversarial Perturbations"; the
attacks are Kos et al. 2017 (arXiv 1702.06832), the set Ilyas et al. 2019 (arXiv 1905.02175), 3.2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.experiments import constructed, visibility
from notbugs.experiments.autoencoder_stages import COLUMNS as OURS
from notbugs.experiments.autoencoder_stages import (
    KINDS,
    PIXELS,
    PRINCIPAL,
    Amplified,
    Autoencoder,
    ByReadout,
    Encoded,
    Held,
    MovePictures,
    Moves,
    name_of,
)
from notbugs.experiments.constructed import Constructed, Leakage, Learnt
from notbugs.experiments.experiment import Experiment, Row, Rows
from notbugs.experiments.main_models import (
    ROBUST,
    ModelsConfig,
    at_random,
    main_settings,
    model,
    models_config,
    pushes,
    student,
    targeted,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Lines, PictureRows, Scatter, Section, Table
from notbugs.experiments.rules import AllOf, AtMost, Below, Claim, Exceeds, Given
from notbugs.experiments.shared import Data
from notbugs.experiments.visibility import LIMIT, Observers, Seen
from notbugs.store import AnyStage

AIMS = ("code", "reconstruction")
JUDGE, INNER = "judge", 10
"""The role of the judge; steps of PGD on each direction of a code."""


@dataclass(frozen=True)
class Config(ModelsConfig):
    """The settings of a run.

    - `codes`: numbers in a code; `epochs`, `width`: of the autoencoders (`train_generator`)
    - `norm`, `eps`: of the sets; `radii`: at which codes are moved
    - `steps`: of the attacks; `count`: test images for moves and directions
    - `net`, `students`: the judge's and a student's architecture, and further students'
    - `standard`, `robust`: trainings; the robust net only observes; `blur`: of class means
    """

    codes: int = 16
    epochs: int = 60
    width: int = 32
    radii: tuple[float, ...] = (0.25, 0.5, 1.0)
    count: int = 200
    blur: float | None = None
    students: tuple[Net, ...] = (Net("mlp"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("codes", "epochs", "width", "count"):
            check_count(getattr(self, name), name)
        for eps in self.radii:
            check_positive(eps, "radii")
        if not self.radii or list(self.radii) != sorted(set(self.radii)):
            raise bad_value("radii", "be at least one, and rise", self.radii)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    config = models_config(Config, data, preset)
    blur = main_settings(data, preset).blur
    config = replace(config, blur=blur)
    if data != "digits":
        config = replace(config, codes=32, epochs=20)
    if preset == "smoke":
        config = replace(config, epochs=30, width=8, codes=12, count=30)
        config = replace(config, radii=(0.5, 1.0))
    return config


def encoder(config: Config, seed: int, kind: str, *, trained: bool = True) -> Autoencoder:
    """An autoencoder of a seed."""
    sizes = config.codes, config.epochs, config.width
    return Autoencoder(Data.of(config, seed), kind, *sizes, trained)


def encoders(config: Config, seed: int) -> Sequence[Autoencoder]:
    """All autoencoders of a seed: trained, linear, and before training."""
    trained = [encoder(config, seed, kind) for kind in (*KINDS, PRINCIPAL)]
    return [*trained, *(encoder(config, seed, kind, trained=False) for kind in KINDS)]


def sets(config: Config, seed: int) -> Iterable[tuple[str, Constructed]]:
    """The sets of a seed by their rows: of encoders, of readouts, and controls."""
    data, at, judge = Data.of(config, seed), config.threat, model(config, seed, JUDGE)
    for one in encoders(config, seed):
        yield name_of(one), Encoded(data, one, at, config.steps)
    yield PIXELS, Encoded(data, None, at, config.steps)
    for kind in KINDS:
        yield f"{kind}, readout", ByReadout(data, encoder(config, seed, kind), at, pushes(config))
    yield "classifier", targeted(config, judge, "other")
    yield "any/random", at_random(config, judge, "other")
    yield "any/class pattern", Leakage(data, "other", at)


def learnt(config: Config, on: Constructed) -> Learnt:
    """What students of a set know of test images."""
    first = student(config, on)
    others = [(f"_{net.architecture}", replace(first, net=net)) for net in config.students]
    return Learnt((("", first), *others))


def moves(config: Config, one: Autoencoder, aim: str, eps: float) -> Moves:
    """How far an attack moves a code or a reconstruction."""
    of = model(config, one.data.seed, JUDGE)
    return Moves(one, of, aim, config.threat_of(eps), config.steps, config.count)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    observers = Observers(model(config, seed, "apart"), model(config, seed, ROBUST), config.blur)
    for one in encoders(config, seed):
        name = name_of(one)
        if one.trained:
            yield Row("held", name, seed, Held(one, model(config, seed, JUDGE)))
            for aim in AIMS:
                for eps in config.radii:
                    yield Row(aim, f"{name} at {eps:g}", seed, moves(config, one, aim, eps))
        yield Rows(seed, Amplified(one, config.threat, INNER, config.count))
    for name, made in sets(config, seed):
        yield Row("sets", name, seed, learnt(config, made))
        yield Row("sets", name, seed, Seen(made, observers))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Codes that are moved, seed 0."""
    of = [encoder(config, 0, kind) for kind in (*KINDS, PRINCIPAL)]
    return [MovePictures(moves(config, one, "code", config.eps)) for one in of]


def claims(config: Config) -> Sequence[Claim]:
    """What the post asks, as statements."""
    none, ends = "not published", ("", *(f"_{net.architecture}" for net in config.students))
    largest = f"{config.radii[-1]:g}"

    def above(kind: str, other: str, points: float | None = None) -> AllOf:
        """Every student learns more of one set than of another."""
        pairs = [(Cell("sets", kind, f"clean{e}"), Cell("sets", other, f"clean{e}")) for e in ends]
        return AllOf(tuple(Exceeds(a, b, points) for a, b in pairs))

    def unseen(kind: str) -> Given:
        """No observer sees the label in more than a twentieth of the images."""
        cells = [Cell("sets", kind, f"seen_{who}") for who in ("nearest", "lpips", "robust")]
        text = f"no observer sees the label in more than {LIMIT:g} % of the images ({kind})"
        return Given(text, AllOf(tuple(AtMost(cell, LIMIT) for cell in cells)))

    statements: list[Claim] = []
    for kind in KINDS:
        rules = [above(kind, c, 10.0) for c in (f"{kind}/untrained", "any/random", PIXELS)]
        statements.append(
            Claim(
                f"learnt_{kind}",
                f"Perturbations towards other codes of the {kind} encoder teach every student 10 "
                "points more than those of the untrained one, of the pixels, and random ones",
                none,
                AllOf(tuple(rules)),
                needs=(unseen(kind),),
                fixed="before any run",
            )
        )
    for kind in KINDS:
        cell = f"{kind} at {largest}"
        statements += [
            Claim(
                f"linear_{kind}",
                f"Perturbations of the {kind} encoder teach every student more than those of "
                "principal components",
                none,
                above(kind, PRINCIPAL),
            ),
            Claim(
                f"closed_{kind}",
                f"At {largest} an attack on the {kind} encoder closes more of the distance to "
                "another image's code than one on principal components",
                none,
                Exceeds(
                    Cell("code", cell, "closed"),
                    Cell("code", f"{PRINCIPAL} at {largest}", "closed"),
                ),
            ),
            Claim(
                f"amplified_{kind}",
                f"The {kind} encoder amplifies the directions of its code less than before "
                "training: what it holds of images makes it less brittle, not more",
                none,
                Below(
                    Cell("amplification", kind, "amplification"),
                    Cell("amplification", f"{kind}/untrained", "amplification"),
                ),
            ),
        ]
    return statements


_TRAINED = (*KINDS, PRINCIPAL)
_SHOWN = (
    ("image", "image"),
    ("again", "its reconstruction"),
    ("changed", "the image, changed"),
    ("fooled", "its reconstruction"),
    ("goal", "the other's"),
)
SECTIONS = (
    Section(
        "What perturbations of encoders teach",
        "Each training image is changed by {norm} {eps} so that an encoder takes it for an image "
        "of another class, drawn from the others; that class becomes its label. No encoder ever "
        "saw a label; labels choose the images whose codes are aimed at. "
        "Students learn from the changed images alone, and are tested on real ones "
        "with their true labels. Readout: a linear classifier of the codes is attacked instead; "
        "classifier: one that was trained on labels. No true label is among a set's.",
        figures=(
            Bars(
                "sets",
                ("clean", "clean_mlp"),
                "True labels of test images, after learning from wrong ones.",
                "right, %",
                chance="chance",
            ),
        ),
        tables=(
            Table(
                "sets",
                "Students of each set, and who sees the label in its images.",
                (
                    "clean",
                    "clean_mlp",
                    "shifted",
                    "true_labels",
                    "images",
                    "seen_nearest",
                    "seen_lpips",
                    "seen_robust",
                    "seen_mean",
                ),
            ),
        ),
    ),
    Section(
        "What codes hold, and how far they can be moved",
        "{codes} numbers an image. The judge is a classifier that no encoder knows. Straight: the "
        "same length towards the other image itself.",
        figures=(
            PictureRows(
                tuple(f"{kind}.{name}" for kind in _TRAINED for name, _ in _SHOWN),
                tuple(label for _ in _TRAINED for _, label in _SHOWN),
                "Codes moved by {norm} {eps} towards another image's, seed 0.",
                tuple((i * len(_SHOWN), kind) for i, kind in enumerate(_TRAINED)),
            ),
            Lines(
                "code",
                ("closed", "closed_straight"),
                "How much of the distance to another image's code a change closes.",
                "closed, %",
                "{norm} of the change",
            ),
        ),
        tables=(
            Table("held", "What a code of {codes} numbers holds of test images."),
            Table("code", "Towards another image's code."),
            Table("reconstruction", "Towards another image's reconstruction."),
        ),
    ),
    Section(
        "Which directions an encoder amplifies",
        "The principal directions of an encoder's codes, each scaled to variance 1. For principal "
        "components of the pixels the amplification is 1 / standard deviation: large where images "
        "hardly vary.",
        figures=(Scatter("points", "rho", "amplification", "Each direction of a code."),),
        tables=(Table("amplification", "Means over directions."),),
    ),
)

EXPERIMENT = Experiment(
    name="autoencoders",
    paper="Kos et al. 2017 (arXiv 1702.06832), Ilyas et al. 2019 (arXiv 1905.02175)",
    question="Do the perturbations of encoders that never saw a label teach classes?",
    datasets=("digits", "mnist", "fashion-mnist"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=constructed.COLUMNS | visibility.COLUMNS | OURS,
    sections=SECTIONS,
    takes={"digits": 6},
)
