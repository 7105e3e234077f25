"""Useful, robust and non-robust features of a standard and a robust model.

Each unit of the embedding, each principal component of it and of the pixels, each cosine wave and
each eigenfeature of a wide net's kernel is a feature: how useful it is for a class (rho), and what
an adversary leaves of it (gamma). Then models that see only some of the units: the robust half, the
other half, and halves that are drawn.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 2, whose definitions these are; Tsilivis
and Kempe 2022 (arXiv 2210.05577) for eigenfeatures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.engine import Threat
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Rows
from notbugs.experiments.main_models import main_settings
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, AtLeast, Below, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.experiments.usefulness_page import COLUMNS, ROLES, SECTIONS
from notbugs.experiments.usefulness_stages import (
    HALVES,
    LOSSES,
    PARTS,
    Judged,
    Points,
    Restricted,
    Shares,
    UnitPictures,
    Weights,
)
from notbugs.store import AnyStage
from notbugs.training import Recipe

OF_MODELS = ("units", "components")
"""Units of the embedding, and its principal components."""
OF_DATA = ("pixels", "cosines", "kernel")
"""Principal components of the pixels, cosines, and eigenfeatures of a wide net's kernel."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `threat`: under which features are judged; `count`: test images that they are judged on
    - `components`: principal components; `steps`: of PGD on each feature
    - `radii`: at which restricted models are attacked, of the threat's norm
    - `net`, `standard`, `robust`: the models; `heads`: the training of linear classifiers of units
    """

    threat: str = "l2:0.5"
    count: int = 200
    components: int = 30
    steps: int = 10
    radii: tuple[float, ...] = (0.25, 0.5, 1.0)
    net: Net = Net("cnn", (("width", 16), ("hidden", 64)))  # noqa: RUF009 (frozen)
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    robust: Recipe = Recipe()  # noqa: RUF009 (frozen)
    heads: Recipe = Recipe(epochs=20, lr=0.02)  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        Threat.parse(self.threat).as_norm("usefulness")
        for name in ("count", "components", "steps"):
            check_count(getattr(self, name), name)
        for eps in self.radii:
            check_positive(eps, "radii")
        if len(self.radii) != 3 or list(self.radii) != sorted(set(self.radii)):
            raise bad_value("radii", "be three rising radii", self.radii)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: models as in the main experiment."""
    main = main_settings(data, preset)
    config = Config(data, preset, standard=main.standard, robust=main.robust)
    config = replace(config, train_size=main.train_size, test_size=main.test_size, seeds=5)
    if data != "digits":
        half = main.eps_eval / 2
        config = replace(config, threat=f"{main.norm}:{half!r}", radii=(half / 2, half, 2 * half))
        config = replace(config, seeds=3, heads=replace(config.heads, epochs=8))
    if preset == "smoke":
        net = Net("cnn", (("width", 4), ("hidden", 8)))
        config = replace(config, seeds=1, net=net, count=60, components=4, steps=2)
        config = replace(config, test_size=120, heads=replace(config.heads, epochs=1))
    return config


def model(config: Config, seed: int, role: str) -> Trained:
    """The standard or the robust model of a seed."""
    recipe = config.robust if role == "robust" else config.standard
    return Trained(Data.of(config, seed), config.net, recipe, role)


def judged(config: Config, seed: int, role: str, family: str) -> Judged:
    """The usefulness of a family of features, of a model or of the data."""
    of = model(config, seed, role) if family in OF_MODELS else Data.of(config, seed)
    return Judged(of, family, config.threat, config.count, config.components, config.steps)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    for family in OF_MODELS:
        for role in ROLES:
            yield Row(
                "shares", f"{role}, {family}", seed, Shares(judged(config, seed, role, family))
            )
    for family in OF_DATA:
        of = judged(config, seed, "", family)
        yield Row("shares", family, seed, Shares(of))
        for part in PARTS:
            yield Row("shares", f"{family}, {part}", seed, Shares(of, part))
    for role in ROLES:
        units = judged(config, seed, role, "units")
        if not seed:
            yield Rows(seed, Points(units))
        yield Rows(seed, Weights(units, config.heads))
        for half in HALVES:
            yield Row("restricted", f"{role}, {half}", seed, Restricted(units, half, config.radii))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Units of both models."""
    return [UnitPictures(judged(config, 0, role, "units")) for role in ROLES]


def claims(config: Config) -> Sequence[Claim]:
    """What the definitions lead to expect."""
    before, none = "before the first run", "not published"
    first, second = PARTS

    def share(row: str, column: str) -> Cell:
        return Cell("shares", row, column)

    def cell(half: str, column: str) -> Cell:
        return Cell("restricted", f"standard, {half}", column)

    def weights(loss: str, column: str) -> Cell:
        return Cell("weights", f"standard, {loss}", column)

    return [
        Claim(
            "share",
            "More of a standard model's useful units are non-robust than of a robust model's",
            none,
            Exceeds(share("standard, units", "non_robust"), share("robust, units", "non_robust")),
        ),
        Claim(
            "gamma",
            "An adversary leaves less of a standard model's useful units than of a robust model's",
            none,
            Below(share("standard, units", "gamma"), share("robust, units", "gamma")),
        ),
        Claim(
            "cosines",
            "Of the useful cosines of low frequencies more are robust than of those of high ones",
            none,
            Exceeds(share(f"cosines, {first}", "robust"), share(f"cosines, {second}", "robust")),
        ),
        Claim(
            "eigenfeatures",
            "Of the useful eigenfeatures of a wide net's kernel more of the first half are robust "
            "than of the second",
            "Tsilivis and Kempe 2022, in figures, not published as this number",
            Exceeds(share(f"kernel, {first}", "robust"), share(f"kernel, {second}", "robust")),
        ),
        Claim(
            "restricted",
            f"A standard model that sees the robust half of its units is more robust at "
            f"{config.radii[0]:g} than one that sees a drawn half",
            none,
            Exceeds(cell("robust half", "under_0"), cell("drawn half", "under_0")),
        ),
        Claim(
            "weights",
            "Of a standard model's units, a linear classifier by adversarial loss withstands more "
            "than one by empirical risk, and its weights go more with what an adversary leaves",
            none,
            AllOf(
                tuple(
                    Exceeds(weights(LOSSES[1], of), weights(LOSSES[0], of))
                    for of in ("withstood", "with_gamma")
                )
            ),
        ),
        Claim(
            "accurate",
            "A standard model that sees the less robust half of its units has 80 % right",
            none,
            AtLeast(cell("other half", "clean"), 80.0),
            fixed=before,
        ),
        Claim(
            "brittle",
            f"That model is less robust at {config.radii[0]:g} than one that sees a drawn half",
            none,
            Below(cell("other half", "under_0"), cell("drawn half", "under_0")),
        ),
    ]


def check(config: Config, parts: Splits) -> None:
    """Refuses test parts that leave nothing to judge the restricted models on."""
    if len(parts.test) <= config.count:
        raise bad_value(
            "count",
            f"be below the number of test images, {len(parts.test)}",
            config.count,
            "The others are for the models that see some units alone.",
        )
    if len(parts.test.labels[: config.count].unique()) < parts.test.classes:
        raise bad_value(
            "count",
            "leave images of every class",
            f"{config.count}, the first of which are of fewer than {parts.test.classes}",
            "Raise it.",
        )


EXPERIMENT = Experiment(
    name="usefulness",
    paper="Ilyas et al. 2019 (arXiv 1905.02175), section 2",
    question="Which features of a model are useful, and which of them break?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
    takes={"digits": 6},
    check=check,
)
