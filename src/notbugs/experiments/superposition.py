"""Superposition: are perturbations the price of storing more features than there are dimensions?

Toy models that store sparse features: how many share a dimension, what an attack costs them, and
whether W^T W predicts it. Then sparse autoencoders of the embeddings of a standard and a robust
model, at equal sparsity, beside Gaussians of the same covariance; and which of a model's features
are found again in models that were trained on its constructed sets.

**Source**: Elhage et al. 2022 (arXiv 2209.10652), for the toy models; the sets
are those of Ilyas et al. 2019 (arXiv 1905.02175), section 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.experiments.constructed import Constructed, Inverted
from notbugs.experiments.experiment import Experiment, Row, Rows
from notbugs.experiments.main_models import (
    BATCH,
    ROBUST,
    STANDARD,
    ModelsConfig,
    at_random,
    main_settings,
    model,
    models_config,
    student,
    targeted,
)
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Column, Lines, Section, Table
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds
from notbugs.experiments.shared import Trained
from notbugs.experiments.superposition_stages import Left, Robustness, Shared, Sparse, ToyModels
from notbugs.features import InversionSettings

AGAIN, UNTRAINED = "standard again", "untrained"
SETS = ("D_R", "D_NR", "D_det", "D_other")
"""The sets on which further models are trained."""


@dataclass(frozen=True)
class Config(ModelsConfig):
    """The settings of a run.

    - `sparsity`: of the toy models' inputs, rising; `features`, `dimensions`, `toy_steps`: theirs
    - `toy_eps`: L2 length of their attacks, of the mean length of inputs; `toy_count`: inputs
    - `units`: of the sparse autoencoders; `active`: how many are on, rising; `shared`: of these,
      for the comparison of models; `epochs`: of their training
    - `count`: test images for attacks on features, of the size of the sets' perturbations
    - `inversion`: of D_R and D_NR
    """

    sparsity: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    features: int = 100
    dimensions: int = 20
    toy_steps: int = 3000
    toy_eps: float = 0.1
    toy_count: int = 500
    units: int = 128
    active: tuple[int, ...] = (1, 2, 4, 8, 16)
    shared: int = 8
    epochs: int = 100
    count: int = 100
    inversion: InversionSettings = InversionSettings()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = "features", "dimensions", "toy_steps", "toy_count", "units", "epochs", "count"
        for name in names:
            check_count(getattr(self, name), name)
        check_positive(self.toy_eps, "toy_eps")
        for name in ("sparsity", "active"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise bad_value(name, "be two numbers or more that rise", values)
        if not 0 <= self.sparsity[0] <= self.sparsity[-1] < 1:
            raise bad_value("sparsity", "lie in 0 to below 1", self.sparsity)
        if self.active[0] < 1 or self.active[-1] > self.units:
            raise bad_value("active", f"lie in 1..{self.units} (`units`)", self.active)
        if self.shared not in self.active:
            raise bad_value("shared", f"be one of `active`, {self.active}", self.shared)
        if self.dimensions > self.features:
            raise bad_value(
                "dimensions", f"be at most {self.features} (`features`)", self.dimensions
            )


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    config = models_config(Config, data, preset)
    inversion = main_settings(data, preset).inversion
    config = replace(config, inversion=inversion)
    if data != "digits":
        config = replace(config, units=256)
    if preset == "smoke":
        config = replace(config, sparsity=(0.0, 0.9), features=12, dimensions=4)
        config = replace(config, toy_steps=30, toy_count=20, units=16, active=(1, 3, 4), shared=4)
        config = replace(config, epochs=2, count=40)
    return config


def made(config: Config, seed: int, name: str) -> Constructed:
    """A constructed set of a seed."""
    if name in ("D_R", "D_NR"):
        of = model(config, seed, ROBUST if name == "D_R" else STANDARD)
        return Inverted(of, name, config.inversion, BATCH)
    return targeted(config, model(config, seed, STANDARD), name[2:])


def sparse(config: Config, of: Trained, active: int, **options: bool) -> Sparse:
    """A sparse autoencoder of a model's embedding."""
    return Sparse(of, config.units, active, config.epochs, **options)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    sizes = config.features, config.dimensions, config.toy_steps
    yield Rows(seed, ToyModels(seed, config.sparsity, *sizes, config.toy_eps, config.toy_count))
    standard = model(config, seed, STANDARD)
    for active in config.active:
        for role in (STANDARD, ROBUST, UNTRAINED):
            trained = role != UNTRAINED
            of = model(config, seed, role if trained else STANDARD)
            one, drawn = (
                sparse(config, of, active, trained=trained, gaussian=g) for g in (False, True)
            )
            yield Row("sparse", f"{role} at {active}", seed, Left(one, drawn))
            yield Row("sparse", f"{role}/Gaussian at {active}", seed, Left(drawn))
    first = sparse(config, standard, config.shared)
    robustness = Robustness(first, config.threat, 10, config.count)
    others = {role: model(config, seed, role) for role in (AGAIN, ROBUST)}
    for name in SETS:
        on = made(config, seed, name)
        others[name] = student(config, on)
    others["D_other/random"] = student(config, at_random(config, standard, "other"))
    for name, of in others.items():
        yield Row("shared", name, seed, Shared(robustness, sparse(config, of, config.shared)))
    untrained = sparse(config, model(config, seed, AGAIN), config.shared, trained=False)
    yield Row("shared", "any/untrained", seed, Shared(robustness, untrained))


def claims(config: Config) -> Sequence[Claim]:
    """What superposition leads to expect."""
    elhage, none = 'section "Relationship to Adversarial Robustness", a curve', "not published"
    low, high = (f"toys at {config.sparsity[i]:g}" for i in (0, -1))
    k = config.shared

    def toy(row: str, column: str) -> Cell:
        return Cell("toys", row, column)

    def beside(row: str) -> Cell:
        return Cell("sparse", f"{row} at {k}", "beside")

    def shared(row: str, column: str) -> Cell:
        return Cell("shared", row, column)

    return [
        Claim(
            "superposition",
            "With sparse inputs, features share dimensions that they have alone with dense ones",
            elhage,
            AllOf(
                (
                    Exceeds(toy(high, "per_dimension"), toy(low, "per_dimension"), 1.0),
                    AtMost(toy(low, "per_dimension"), 1.1),
                )
            ),
            fixed="before any run; the second after one",
        ),
        Claim(
            "vulnerable",
            "And an attack adds more to the loss, over what it adds where nothing is shared",
            elhage,
            Exceeds(toy(high, "attack"), toy(low, "attack")),
        ),
        Claim(
            "predicted",
            "W^T W predicts the attack and its sign: a cosine of at least 0.5 at the largest "
            "sparsity",
            none,
            AtLeast(toy(high, "cosine"), 0.5),
            fixed="after a run whose cosine had no sign: 0.75",
        ),
        Claim(
            "beyond",
            "A sparse autoencoder leaves less of embeddings than of Gaussians with their "
            "covariance, and less so of an untrained model's: what training makes is beyond "
            "second moments",
            none,
            AllOf(
                tuple(
                    rule
                    for role in (STANDARD, ROBUST)
                    for rule in (AtMost(beside(role), 1.0), Below(beside(role), beside(UNTRAINED)))
                )
            ),
            fixed="1 is what Gaussians leave",
        ),
        Claim(
            "robust",
            f"With {k} units on, a sparse autoencoder leaves less of a robust model's embedding "
            "than of a standard one's, beside Gaussians of the same covariance",
            none,
            Below(beside(ROBUST), beside(STANDARD)),
        ),
        Claim(
            "carried",
            "A student of D_other, whose labels tell nothing of the images, shares more of the "
            "standard model's features than one of random directions does",
            none,
            Exceeds(shared("D_other", "same"), shared("D_other/random", "same")),
        ),
        Claim(
            "brittle",
            "What models of D_NR share with it is less robust than what a robust model shares",
            none,
            Below(shared("D_NR", "gamma"), shared(ROBUST, "gamma")),
        ),
    ]


COLUMNS = {
    "per_dimension": Column("Features", "a dimension, the squared length of W over m", 2),
    "loss": Column("Loss", "without an attack", 4),
    "attack": Column("Attack", "adds to the loss, over a model that shares nothing", 2),
    "random": Column("Random", "change of the same size adds, over the same", 2),
    "beside": Column("Beside", "of what is left of Gaussians with its covariance", 2),
    "cosine": Column("Predicted", "cosine with the direction from W^T W", 2),
    "cosine_random": Column("Random", "cosine with a random direction", 2),
    "left": Column("Left", "of the variance of embeddings of test images", unit="%"),
    "alive": Column("Alive", "units that are ever on", unit="%"),
    "features": Column("Features", "of the standard model that are on", 0),
    "matched": Column("Correlation", "of each with its best match, mean", 2),
    "same": Column("Same", "of them, a correlation of at least 0.7", unit="%"),
    "gamma": Column("gamma, shared", "what an attack leaves of the better matched half", 3),
    "gamma_rest": Column("gamma, others", "of the other half", 3),
}

SECTIONS = (
    Section(
        "Toy models that store more features than dimensions",
        "{features} features, {dimensions} dimensions; each entry of an input is 0 with the "
        "probability S. Attacks of {toy_eps} of the mean length of inputs, which are not all zero.",
        figures=(
            Lines(
                "toys",
                ("per_dimension", "attack"),
                "Features that share a dimension, and what an attack adds to the loss.",
                "features; times a model that shares nothing",
                "S, the share of zeros",
            ),
            Lines(
                "toys",
                ("cosine", "cosine_random"),
                "The worst change beside the one that W^T W predicts.",
                "cosine",
                "S, the share of zeros",
            ),
        ),
        tables=(Table("toys", "Toy models by the sparsity of their inputs."),),
    ),
    Section(
        "Sparse autoencoders of embeddings",
        "{units} units, of which only a few are on at once. /Gaussian: normal draws with the same "
        "mean and covariance; untrained: the standard model before training.",
        figures=(
            Lines(
                "sparse",
                ("left",),
                "What sparse codes leave of the variance of embeddings.",
                "left, %",
                "units on",
                logarithmic=True,
            ),
        ),
        tables=(Table("sparse", "Left of embeddings of test images."),),
    ),
    Section(
        "Which features models share",
        "A feature of the standard model's sparse autoencoder ({shared} units on) is compared with "
        "those of other models' over test images. Standard again: the same training from other "
        "weights.",
        figures=(
            Bars(
                "shared",
                ("same",),
                "Features of the standard model that another has as well.",
                "same, %",
            ),
        ),
        tables=(Table("shared", "Features shared with other models, and how robust they are."),),
    ),
)

EXPERIMENT = Experiment(
    name="superposition",
    paper="Elhage et al. 2022, Toy models of superposition (arXiv 2209.10652)",
    question="Are perturbations the price of storing more features than there are dimensions?",
    datasets=("digits", "mnist", "fashion-mnist"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
)
