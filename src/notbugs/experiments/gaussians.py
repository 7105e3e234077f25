"""Theory in which robustness can be computed: Gaussian classes fitted to images, and three sets.

Two classes of images, in their first principal components, are taken for Gaussians of one
covariance. On them the three theorems of Ilyas et al. 2019 are compared with sampling, and what
they say of classifiers with real test images. Beside it accuracy at odds with robustness, sample
complexity, and a set on which training does not find the robust classifier.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 4; Tsipras et al. 2018 (arXiv 1805.12152),
section 2.1; Schmidt et al. 2018 (arXiv 1804.11285), section 2.1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.experiments.experiment import Experiment, PaperConfig, Row
from notbugs.experiments.gaussian_stages import Cost, Densities, Fitted, Odds, Samples, Unused
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Column, Lines, PictureRows, Section, Table
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Claim, Exceeds
from notbugs.experiments.shared import Data
from notbugs.store import AnyStage

PRICES = (1.5, 5.0, 50.0)
"""Prices of theorem 1, as multiples of the least one."""
WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Of the robust feature, at odds with the others."""
DIMENSIONS = (100, 1_000, 10_000)
"""Of the sets whose sample complexity is measured."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `pair`: the two classes; `components`: principal components that are kept
    - `radii`: L2 sizes of the adversary, rising, in pixel units; `judged`: that of the test images
    - `draws`: of each mean that is sampled
    """

    pair: tuple[int, int] = (3, 7)
    components: int = 10
    radii: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)
    judged: float = 1.0
    draws: int = 2_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.components, "components")
        check_count(self.draws, "draws")
        check_positive(self.judged, "judged")
        if self.pair[0] == self.pair[1]:
            raise bad_value("pair", "name two classes", self.pair)
        if len(self.radii) < 2 or list(self.radii) != sorted({*self.radii}) or self.radii[0] <= 0:
            raise bad_value("radii", "hold two or more rising sizes above 0", self.radii)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    config = Config(data, preset, seeds=5)
    if data != "digits":
        config = replace(config, train_size=20_000, components=30, radii=(0.5, 1.0, 2.0, 5.0))
        config = replace(config, judged=2.0)
    if preset == "smoke":
        config = replace(config, seeds=1, train_size=600, test_size=200, draws=20_000)
        config = replace(config, radii=config.radii[:2])
    return config


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    of = Data.of(config, seed), config.pair, config.components
    for multiple in PRICES:
        yield Row("theorem1", f"price at {multiple:g}", seed, Cost(*of, multiple, config.draws))
    for eps in (None, *config.radii):
        stage = Fitted(*of, eps, config.judged, config.draws)
        yield Row("fits", f"adversary at {0 if eps is None else eps:g}", seed, stage)
    for weight in WEIGHTS:
        yield Row("odds", f"weight at {weight:g}", seed, Odds(weight, config.draws, seed))
    yield Row("odds", "robust feature alone", seed, Odds(None, config.draws, seed))
    for dimension in DIMENSIONS:
        yield Row("samples", f"dimensions at {dimension}", seed, Samples(dimension, seed))
    yield Row("unused", "gradient descent", seed, Unused(seed))


def pictures(config: Config) -> Sequence[AnyStage]:
    """The densities."""
    return [Densities()]


def claims(config: Config) -> Sequence[Claim]:
    """The papers' statements."""
    before = "before any run"
    sizes = [f"adversary at {eps:g}" for eps in (0, *config.radii)]

    def fit(column: str, at: int) -> Cell:
        return Cell("fits", sizes[at], column)

    dimensions = [f"dimensions at {d}" for d in DIMENSIONS]
    return [
        Claim(
            "cost",
            "Theorem 1: the adversary's cost is as in its closed form, to 0.1 %",
            "section 4",
            AllOf(
                tuple(
                    AtMost(Cell("theorem1", f"price at {price:g}", "error"), 0.1)
                    for price in PRICES
                )
            ),
            fixed=before,
        ),
        Claim(
            "round",
            "The same trace costs less where the covariance is a multiple of the identity",
            "section 4",
            AllOf(
                tuple(
                    Exceeds(
                        Cell("theorem1", f"price at {price:g}", "closed"),
                        Cell("theorem1", f"price at {price:g}", "round"),
                    )
                    for price in PRICES
                )
            ),
        ),
        Claim(
            "budget",
            "Theorem 2: the adversary spends its budget against the robust fit, to 0.5 %",
            "section 4",
            AllOf(tuple(AtMost(fit("budget_error", i), 0.5) for i in range(1, len(sizes)))),
            fixed=before,
        ),
        Claim(
            "alignment",
            "Theorem 3: the gradient of the robust fit is closer to the difference of the means, "
            "the more so the larger the adversary: of these means, and of the worst",
            "section 4",
            AllOf(
                tuple(
                    Exceeds(fit(column, i + 1), fit(column, i))
                    for column in ("alignment", "least")
                    for i in range(len(sizes) - 1)
                )
            ),
        ),
        Claim(
            "images",
            f"On test images the fit against the largest adversary is more robust at L2 "
            f"{config.judged:g} than maximum likelihood",
            "not published",
            Exceeds(fit("test_robust", -1), fit("test_robust", 0)),
        ),
        Claim(
            "odds",
            "No weight of the robust feature is more robust than its accuracy allows",
            "section 2.1 (theorem 2.1 of Tsipras et al. 2018)",
            AllOf(
                tuple(
                    AtMost(Cell("odds", f"weight at {weight:g}", "above_bound"), 0.0)
                    for weight in WEIGHTS
                )
            ),
            fixed="by the theorem",
        ),
        Claim(
            "samples",
            "One example is enough to classify in every dimension; to withstand moves of a half "
            "takes more, the higher the dimension",
            "section 2.1 (Schmidt et al. 2018)",
            AllOf(
                (
                    *(AtMost(Cell("samples", name, "standard"), 1.0) for name in dimensions),
                    *(AtLeast(Cell("samples", name, "half"), 2.0) for name in dimensions),
                    *(
                        Exceeds(Cell("samples", b, "half"), Cell("samples", a, "half"))
                        for a, b in pairwise(dimensions)
                    ),
                )
            ),
            fixed=before,
        ),
        Claim(
            "unused",
            "Training withstands at most 0.2 where the robust classifier withstands 1",
            "not published",
            AllOf(
                (
                    AtMost(Cell("unused", "gradient descent", "trained"), 0.2),
                    AtLeast(Cell("unused", "gradient descent", "exists"), 1.0),
                )
            ),
            fixed=before,
        ),
    ]


COLUMNS = {
    "closed": Column("Closed form", "", None),
    "sampled": Column("Sampled", "", None),
    "error": Column("Error", "", 3, "%"),
    "round": Column("Round", "the same for the identity of that trace", None),
    "budget_error": Column("Budget", "relative error of the mean squared move", 3, "%"),
    "condition": Column("Condition", "of the fitted covariance", None),
    "alignment": Column("Alignment", "cosine of gradient and difference of means", 3),
    "least": Column("Least", "the smallest alignment of any means", 3),
    "clean": Column("Clean", "closed form", unit="%"),
    "robust": Column("Robust", "closed form", unit="%"),
    "test_clean": Column("Test, clean", "test images", unit="%"),
    "test_robust": Column("Test, robust", "test images, moved the worst way", unit="%"),
    "sampled_clean": Column("Sampled, clean", "", unit="%"),
    "sampled_robust": Column("Sampled, robust", "", unit="%"),
    "bound": Column("Bound", "on robust accuracy", unit="%"),
    "above_bound": Column("Above it", "robust accuracy less the bound", unit="%"),
    "standard": Column("Standard", "examples", 0),
    "quarter": Column("At 0.25", "examples", 0),
    "half": Column("At 0.5", "examples", 0),
    "trained": Column("Trained", "the Linf radius that it withstands", 3),
    "margin": Column("Margin", "that of the largest L2 margin", 3),
    "exists": Column("Exists", "that of the robust feature alone", 3),
}

SECTIONS = (
    Section(
        "Robust maximum likelihood",
        "Classes {pair} in {components} principal components, taken for Gaussians of one "
        "covariance. An adversary of mean squared size eps^2 makes the fitted covariance rounder: "
        "it blends the metric of the data with that of the adversary.",
        figures=(
            PictureRows(
                ("densities",),
                ("fit",),
                "The fitted density of one class in bands of a standard deviation, and, through "
                "its mean, the direction of the boundary: against adversaries of size "
                + ", ".join(f"{eps:g}" for eps in Densities().radii),
            ),
            Lines(
                "fits",
                ("alignment", "least"),
                "The gradient turns towards the difference of the means.",
                "cosine",
                "eps",
            ),
            Lines(
                "fits",
                ("clean", "test_clean", "robust", "test_robust"),
                "Accuracy, in closed form and on test images; robust at L2 {judged}.",
                "%",
                "eps",
            ),
        ),
        tables=(
            Table("theorem1", "The adversary's cost by its price, in multiples of the least one."),
            Table("fits", "Fits against adversaries; robust at L2 {judged}."),
        ),
    ),
    Section(
        "Accuracy at odds with robustness",
        "One feature is right in 95 % and robust, a hundred others are weak, and right in 98 % "
        "together. A little weight on the first makes the classifier more accurate; beyond that, "
        "more weight makes it less accurate and more robust.",
        figures=(
            Lines(
                "odds",
                ("clean", "robust", "bound"),
                "By the weight of the robust feature.",
                "%",
                "weight of the robust feature",
            ),
        ),
        tables=(Table("odds", "Robust at twice the weak features' mean, in Linf."),),
    ),
    Section(
        "Examples that it takes",
        "Means of 100 classifiers, each the mean of its examples, of which there are powers of "
        "two.",
        tables=(Table("samples", "Examples for 90 % accuracy, standard and under Linf moves."),),
    ),
    Section(
        "A robust classifier that training does not find",
        "Two points, one strong feature and a thousand weak ones that never err: the largest "
        "margin in L2, where gradient descent on the logistic loss goes, spreads over all.",
        tables=(Table("unused", "The Linf radius that classifiers withstand."),),
    ),
)


def check(config: Config, parts: Splits) -> None:
    """Refuses classes that are not there, and more components than images of them can span."""
    for label in config.pair:
        if not 0 <= label < parts.train.classes:
            raise bad_value("pair", f"lie in 0..{parts.train.classes - 1}", label)
        for what, part in (("training", parts.train), ("test", parts.test)):
            if not bool((part.labels == label).any()):
                raise bad_value(
                    "pair",
                    f"name classes that the {len(part)} {what} images have",
                    label,
                    "Take other classes, or more images.",
                )
    pair = torch.tensor(config.pair)
    x = parts.train.pixels()[torch.isin(parts.train.labels, pair)].flatten(1).double()
    most = min(len(x) - 2, int(torch.linalg.matrix_rank(x - x.mean(dim=0))))
    if config.components > most:
        remedy = f"Images of the two classes vary in no more. Use {most} or fewer."
        raise bad_value("components", f"be at most {most}", config.components, remedy)


EXPERIMENT = Experiment(
    name="gaussians",
    paper="Ilyas et al. 2019 (arXiv 1905.02175), section 4; Tsipras et al. 2018 "
    "(arXiv 1805.12152); Schmidt et al. 2018 (arXiv 1804.11285)",
    question="What does robust training do where it can be computed?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
    check=check,
)
