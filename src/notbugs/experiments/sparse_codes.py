"""What adversarial perturbations are made of: their sparse codes, beside those of images.

Dictionaries are learnt on images, on perturbations of a standard, a robust and an untrained model,
on random directions, and on Gaussian draws with the covariance of images or of perturbations: all
that their second moments say. Each is coded sparsely in its own dictionary and in the others', and
the class that a perturbation aims at is read from its code alone.

**Source**: the experiment is proposed in the post "The Structure of Adversarial Perturbations"; the
dictionaries are those of Mairal et al. 2009 (scikit-learn), the codes orthogonal matching pursuit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.experiments.experiment import (
    Experiment,
    Row,
    Rows,
)
from notbugs.experiments.main_models import (
    ROBUST,
    STANDARD,
    ModelsConfig,
    at_random,
    model,
    models_config,
    targeted,
)
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Column, Lines, Matrix, PictureRows, Section, Table
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds
from notbugs.experiments.shared import Data
from notbugs.experiments.sparse_code_stages import (
    AtomPictures,
    Crossed,
    Dictionary,
    Errors,
    Readout,
    Vectors,
)
from notbugs.store import AnyStage

IMAGES, UNTRAINED, RANDOM = "images", "untrained", "random"
LIKE_STANDARD, LIKE_IMAGES = "standard/Gaussian", "images/Gaussian"
KINDS = (IMAGES, STANDARD, ROBUST, UNTRAINED, RANDOM, LIKE_STANDARD, LIKE_IMAGES)
"""What is coded: images, perturbations, random directions, and Gaussians of equal covariance."""


@dataclass(frozen=True)
class Config(ModelsConfig):
    """The settings of a run.

    - `atoms`: of each dictionary; `penalty`: of the L1 norm, on vectors of length 1, in learning it
    - `counts`: of atoms in a code, rising; `crossed`: of these, for codes in others' dictionaries
    """

    atoms: int = 100
    penalty: float = 0.1
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    crossed: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.atoms, "atoms")
        check_positive(self.penalty, "penalty")
        for count in self.counts:
            check_count(count, "counts")
        if not self.counts or list(self.counts) != sorted(set(self.counts)):
            raise bad_value("counts", "rise", self.counts)
        if self.counts[-1] > self.atoms:
            raise bad_value("counts", f"be at most the number of atoms, {self.atoms}", self.counts)
        if self.crossed not in self.counts:
            raise bad_value("crossed", f"be one of `counts`, {self.counts}", self.crossed)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    config = models_config(Config, data, preset)
    if data != "digits":
        config = replace(config, atoms=200, counts=(1, 2, 4, 8, 16, 32))
    if preset == "smoke":
        config = replace(config, atoms=12, counts=(1, 3, 4), crossed=4)
    return config


def vectors(config: Config, seed: int, kind: str) -> Vectors:
    """Where the vectors of a kind come from."""
    data = Data.of(config, seed)
    if kind in (IMAGES, LIKE_IMAGES):
        return Vectors(data, None, kind == LIKE_IMAGES)
    of = model(config, seed, ROBUST if kind == ROBUST else STANDARD)
    if kind == RANDOM:
        return Vectors(data, at_random(config, of, "other"))
    made = targeted(config, of, "other", trained=kind != UNTRAINED)
    return Vectors(data, made, kind == LIKE_STANDARD)


def dictionary(config: Config, seed: int, kind: str) -> Dictionary:
    """The dictionary of a kind."""
    return Dictionary(vectors(config, seed, kind), config.atoms, config.penalty)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    every = tuple((kind, dictionary(config, seed, kind)) for kind in KINDS)
    for kind, own in every:
        of = vectors(config, seed, kind)
        yield Rows(seed, Errors(kind, of, own, config.counts))
        yield Row("crossed", kind, seed, Crossed(of, every, config.crossed))
        if of.on is not None and not of.gaussian:
            images = dictionary(config, seed, IMAGES)
            yield Row("readout", kind, seed, Readout(of, own, images, config.crossed))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Atoms of seed 0."""
    every = tuple(
        (kind.replace("/", " "), vectors(config, 0, kind), dictionary(config, 0, kind))
        for kind in KINDS
    )
    return [AtomPictures(every, config.crossed)]


def claims(config: Config) -> Sequence[Claim]:
    """What the proposal leads to expect."""
    none, before = "not published", "before any run"

    def own(kind: str) -> Cell:
        return Cell("own", f"{kind} at {config.crossed}", "left")

    def within(kind: str, of: str) -> Cell:
        return Cell("crossed", kind, f"in_{KINDS.index(of)}")

    return [
        Claim(
            "structure",
            f"{config.crossed} atoms leave less of a standard model's perturbations than of an "
            "untrained model's",
            none,
            Below(own(STANDARD), own(UNTRAINED)),
        ),
        Claim(
            "beyond",
            "And less than of Gaussian draws with the covariance of these perturbations: they are "
            "sparse beyond their second moments",
            none,
            Below(own(STANDARD), own(LIKE_STANDARD)),
        ),
        Claim(
            "images",
            "Images are sparser than perturbations: less is left of them",
            none,
            Below(own(IMAGES), own(STANDARD)),
        ),
        Claim(
            "robust",
            "In the dictionary of images, less is left of a robust model's perturbations than of a "
            "standard model's",
            none,
            Below(within(ROBUST, IMAGES), within(STANDARD, IMAGES)),
        ),
        Claim(
            "class",
            "The class that a standard model's perturbation aims at is read from its code alone in "
            "at least half of them, and from random directions in at most 20 %",
            none,
            AllOf(
                (
                    AtLeast(Cell("readout", STANDARD, "target"), 50.0),
                    AtMost(Cell("readout", RANDOM, "target"), 20.0),
                )
            ),
            fixed=before,
        ),
        Claim(
            "true",
            "The class of its image is read from it less often",
            none,
            Exceeds(Cell("readout", STANDARD, "target"), Cell("readout", STANDARD, "true")),
        ),
    ]


COLUMNS = {
    "left": Column("Left", "of the squared length, by the code", unit="%"),
    "target": Column("Aim", "right, from codes in its own dictionary", unit="%"),
    "true": Column("True class", "of the image, from the same codes", unit="%"),
    "target_images": Column("Aim, images' atoms", "from codes in that of images", unit="%"),
    "target_pixels": Column("Aim, pixels", "from the perturbation itself", unit="%"),
    "chance": Column("Chance", unit="%"),
} | {f"in_{i}": Column(f"In {kind}", "left", unit="%") for i, kind in enumerate(KINDS)}

SECTIONS = (
    Section(
        "How sparse perturbations are",
        "Perturbations of {norm} {eps} towards a class that is drawn from the others, "
        "are coded by the few of {atoms} atoms that serve best; on vectors that no "
        "dictionary was learnt on. /Gaussian: normal draws with the same covariance, which are all "
        "that second moments say.",
        figures=(
            Lines(
                "own",
                ("left",),
                "What codes leave of the squared length, each in its own dictionary.",
                "left, %",
                "atoms in a code",
                logarithmic=True,
            ),
            PictureRows(
                tuple(f"atoms.{kind.replace('/', ' ')}" for kind in KINDS),
                KINDS,
                "The atoms that code most, seed 0; grey is zero.",
            ),
        ),
        tables=(Table("own", "Left of vectors in their own dictionary."),),
    ),
    Section(
        "In the dictionaries of others",
        "Rows are what is coded, with {crossed} atoms; columns whose dictionary.",
        figures=(Matrix("crossed", "What codes leave in others' dictionaries.", "left, %"),),
        tables=(Table("crossed", "The same in numbers."),),
    ),
    Section(
        "Which class a perturbation aims at",
        "Logistic regressions on the codes of perturbations alone; the images are not seen.",
        figures=(
            Bars(
                "readout",
                ("target", "true"),
                "Classes read from codes of perturbations.",
                "right, %",
                chance="chance",
            ),
        ),
        tables=(Table("readout", "Accuracies on perturbations that nothing was learnt on."),),
    ),
)

EXPERIMENT = Experiment(
    name="sparse-codes",
    paper="Mairal et al. 2009; Ilyas et al. 2019 (arXiv 1905.02175), section 3.2, for the sets",
    question="What are adversarial perturbations made of?",
    datasets=("digits", "mnist", "fashion-mnist"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
)
