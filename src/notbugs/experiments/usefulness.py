"""Useful, robust and non-robust features of a standard and a robust model.

Each unit of the embedding, each principal component of it and of the pixels is a feature: how
useful it is for a class (rho), and what an adversary leaves of it (gamma). Then models that see
only some of the units: the robust half, the other half, and halves that are drawn.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 2, whose definitions these are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images
from notbugs.data import Splits, safefile
from notbugs.engine import Threat
from notbugs.experiments.config import config_for as main_config
from notbugs.experiments.experiment import (
    Experiment,
    Illustration,
    Measurement,
    Measurements,
    PaperConfig,
    Pictures,
    Row,
    Rows,
    Stage,
    Work,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell, Columns, Tables
from notbugs.experiments.page import Column, PictureRows, Scatter, Section, Table
from notbugs.experiments.rules import AtLeast, AtMost, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.features import (
    Features,
    Usefulness,
    features_of,
    pixel_features,
    restricted,
    usefulness,
)
from notbugs.judge import accuracy, evaluate
from notbugs.judge.standard import evaluation_pgd
from notbugs.representations import visualise
from notbugs.store import AnyStage
from notbugs.training import Recipe

ROLES = ("standard", "robust")
FAMILIES = ("units", "components", "pixels")
"""Units of the embedding, its principal components, and those of the pixels."""
HALVES = ("all units", "robust half", "other half", "drawn half")
NUMBERS = ("rho", "gamma", "rho_error", "gamma_error", "trained")
TENSORS = "usefulness.safetensors"
SHOWN = 8
"""Units that are pictured: the most robust and the least."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `threat`: under which features are judged; `count`: test images that they are judged on
    - `components`: principal components; `steps`: of PGD on each feature
    - `radii`: at which restricted models are attacked, of the threat's norm
    - `net`, `standard`, `robust`: the models
    """

    threat: str = "l2:0.5"
    count: int = 200
    components: int = 30
    steps: int = 10
    radii: tuple[float, ...] = (0.25, 0.5, 1.0)
    net: Net = Net("cnn", (("width", 16), ("hidden", 64)))  # noqa: RUF009 (frozen)
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    robust: Recipe = Recipe()  # noqa: RUF009 (frozen)

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
    main = main_config(data, "smoke" if preset == "smoke" else "laptop")
    config = Config(data, preset, standard=main.standard, robust=main.robust)
    config = replace(config, train_size=main.train_size, test_size=main.test_size, seeds=5)
    if data != "digits":
        half = main.eps_eval / 2
        config = replace(config, threat=f"{main.norm}:{half!r}", radii=(half / 2, half, 2 * half))
        config = replace(config, seeds=3)
    if preset == "smoke":
        net = Net("cnn", (("width", 4), ("hidden", 8)))
        config = replace(config, seeds=1, net=net, count=60, components=4, steps=2)
        config = replace(config, test_size=120)
    return config


@dataclass(frozen=True)
class Judged(Stage[Usefulness]):
    """The usefulness of a model's features."""

    model: Trained
    family: str
    threat: str
    count: int
    components: int
    steps: int

    @property
    def label(self) -> str:
        return f"features of {self.model.role}, {self.family} · seed {self.model.data.seed}"

    @property
    def cost(self) -> float:
        features = 0 if self.family == "pixels" else 64
        return 4.0 * self.count * self.steps * features

    def features(self, work: Work) -> Features:
        """The features themselves."""
        train = self.model.data.train(work)
        if self.family == "pixels":
            return pixel_features(train, components=self.components)
        count = self.components if self.family == "components" else None
        return features_of(work.load(self.model), train, components=count)

    def make(self, work: Work) -> None:
        parts = self.model.data.splits(work)
        some = parts.test.select(slice(0, self.count))
        found = usefulness(
            self.features(work),
            parts.train,
            some,
            Threat.parse(self.threat),
            steps=self.steps,
            seed=random.seed_of(self.model.data.seed, "usefulness"),
            progress=work.progress,
        )
        tensors = {name: getattr(found, name).contiguous() for name in NUMBERS}
        certified = {"certified": repr(found.certified)}
        safefile.write_tensors(work.folder / TENSORS, tensors, certified)

    def load(self, folder: Path, work: Work) -> Usefulness:
        tensors, facts = safefile.read_tensors(folder / TENSORS, what="data")
        return Usefulness(**tensors, certified=facts["certified"] == "True")


def at_best(found: Usefulness) -> dict[str, Tensor]:
    """Numbers of each feature for the class that it is most useful for in training, [m] each."""
    best = found.trained.abs().argmax(dim=1, keepdim=True)
    columns = {name: getattr(found, name) for name in ("rho", "gamma", "useful", "robust")}
    columns["non_robust"] = found.non_robust
    return {name: column.gather(1, best)[:, 0] for name, column in columns.items()}


@dataclass(frozen=True)
class Shares(Measurement):
    """What share of features is useful, robust or not, each for its best class."""

    judged: Judged

    def measure(self, work: Work) -> Columns:
        found = work.load(self.judged)
        best = at_best(found)
        useful = best["useful"]
        return {
            "features": float(len(useful)),
            "useful": percent(useful),
            "robust": percent(best["robust"][useful]) if bool(useful.any()) else None,
            "non_robust": percent(best["non_robust"][useful]) if bool(useful.any()) else None,
            "rho": float(best["rho"].mean()),
            "gamma": float(best["gamma"].mean()),
        }


@dataclass(frozen=True)
class Points(Measurements):
    """rho and gamma of each feature, by its number."""

    judged: Judged

    def measure(self, work: Work) -> Tables:
        best, role = at_best(work.load(self.judged)), self.judged.model.role
        numbers = self.judged.features(work).numbers.tolist()
        points = zip(numbers, best["rho"].tolist(), best["gamma"].tolist(), strict=True)
        return {"points": {f"{role} at {i}": {"rho": a, "gamma": b} for i, a, b in points}}


def half_of(judged: Judged, half: str, work: Work) -> Tensor:
    """The numbers of the units of one of `HALVES`: by gamma for the best class, or drawn."""
    gamma = at_best(work.load(judged))["gamma"]
    numbers, order = judged.features(work).numbers, gamma.argsort(descending=True)
    middle = len(order) // 2
    if half == "drawn half":
        order = torch.randperm(
            len(order), generator=random.generator(judged.model.data.seed, "half")
        )
    chosen = {"all units": order, "other half": order[middle:]}.get(half, order[:middle])
    return numbers[chosen.sort().values]


@dataclass(frozen=True)
class Restricted(Measurement):
    """Accuracies of a model that sees some units alone, clean and under attack.

    On the test images that its units were not judged on.
    """

    judged: Judged
    half: str
    radii: tuple[float, ...]

    @property
    def cost(self) -> float:
        return 60.0 * (self.judged.model.data.test_size or 400) * len(self.radii)

    def measure(self, work: Work) -> Columns:
        of = self.judged.model
        parts, units = of.data.splits(work), half_of(self.judged, self.half, work)
        model = restricted(work.load(of), parts.train, units)
        test = parts.test.select(slice(self.judged.count, None))
        norm = Threat.parse(self.judged.threat).norm
        columns: dict[str, float | None] = {
            "features": float(len(units)),
            "clean": accuracy(model, test),
        }
        for i, eps in enumerate(self.radii):
            threat = Threat(norm, eps)
            verdict = evaluate(
                model,
                test,
                threat,
                attacks=[evaluation_pgd(threat)],
                seed=random.seed_of(of.data.seed, "measure"),
                fast=False,
            )
            columns[f"under_{i}"] = verdict.robust_accuracy
        return columns


@dataclass(frozen=True)
class UnitPictures(Illustration):
    """What the most robust units of a model and the least look for: images that excite them."""

    judged: Judged

    def draw(self, work: Work) -> Pictures:
        gamma, model = at_best(work.load(self.judged))["gamma"], work.load(self.judged.model)
        features, order = self.judged.features(work), gamma.argsort(descending=True)
        role, test = self.judged.model.role, self.judged.model.data.splits(work).test
        strongest = features(test.pixels()).argmax(dim=0)

        def excited(rows: Tensor) -> Images:
            # From the image that excites a unit most: others may leave it without a gradient.
            start = test.pixels(strongest[rows]).to(model.device)
            return visualise(model, features.numbers[rows], start=start).x

        return {
            f"{role}.robust": excited(order[:SHOWN]),
            f"{role}.other": excited(order[-SHOWN:]),
        }


def model(config: Config, seed: int, role: str) -> Trained:
    """The standard or the robust model of a seed."""
    recipe = config.robust if role == "robust" else config.standard
    return Trained(Data.of(config, seed), config.net, recipe, role)


def judged(config: Config, seed: int, role: str, family: str) -> Judged:
    """The usefulness of a family of features of a model."""
    of = model(config, seed, role)
    return Judged(of, family, config.threat, config.count, config.components, config.steps)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    for family in FAMILIES:
        for role in ROLES[:1] if family == "pixels" else ROLES:
            name = family if family == "pixels" else f"{role}, {family}"
            yield Row("shares", name, seed, Shares(judged(config, seed, role, family)))
    for role in ROLES:
        units = judged(config, seed, role, "units")
        if not seed:
            yield Rows(seed, Points(units))
        for half in HALVES:
            yield Row("restricted", f"{role}, {half}", seed, Restricted(units, half, config.radii))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Units of both models."""
    return [UnitPictures(judged(config, 0, role, "units")) for role in ROLES]


def claims(config: Config) -> Sequence[Claim]:
    """What the definitions lead to expect."""
    before, none = "before the first run", "not published"

    def share(row: str, column: str) -> Cell:
        return Cell("shares", row, column)

    def cell(half: str, column: str) -> Cell:
        return Cell("restricted", f"standard, {half}", column)

    return [
        Claim(
            "share",
            "More of a standard model's useful units are non-robust than of a robust model's",
            none,
            Exceeds(share("standard, units", "non_robust"), share("robust, units", "non_robust")),
        ),
        Claim(
            "gamma",
            "An adversary leaves less of a standard model's units than of a robust model's",
            none,
            Exceeds(share("robust, units", "gamma"), share("standard, units", "gamma")),
        ),
        Claim(
            "restricted",
            f"A standard model that sees the robust half of its units is more robust at "
            f"{config.radii[0]:g} than one that sees a drawn half",
            none,
            Exceeds(cell("robust half", "under_0"), cell("drawn half", "under_0")),
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
            f"That model has at most 10 % right under attacks of size {config.radii[-1]:g}",
            none,
            AtMost(cell("other half", f"under_{len(config.radii) - 1}"), 10.0),
            fixed=before,
        ),
    ]


COLUMNS = {
    "features": Column("Features", "", 0),
    "useful": Column("Useful", "for their best class, beyond the interval", unit="%"),
    "robust": Column("Robust", "of the useful, beyond the interval", unit="%"),
    "non_robust": Column("Non-robust", "of the useful: turned around, beyond it", unit="%"),
    "rho": Column("rho", "usefulness, mean over features", 3),
    "gamma": Column("gamma", "robust usefulness, mean over features", 3),
    "clean": Column("Clean", "test images", unit="%"),
    "under_0": Column("Small", "robust accuracy at the smallest radius", unit="%"),
    "under_1": Column("Middle", "at the second", unit="%"),
    "under_2": Column("Large", "at the third", unit="%"),
}

SECTIONS = (
    Section(
        "Useful, robust and non-robust features",
        "A feature is a number for each image, with mean 0 and variance 1. Its usefulness rho for "
        "a class is its mean over images of the class less that over others, halved; gamma is the "
        "same where an adversary of {threat} changes each image against it. Below 0 it is turned "
        "around: useful, and not robust. Units and components are attacked one by one, so their "
        "gamma is an upper bound; for the pixels it is exact, but for the limits of an image.",
        figures=(
            Scatter("points", "rho", "gamma", "Each unit for its best class, seed 0.", zero=True),
            PictureRows(
                tuple(f"{role}.{which}" for role in ROLES for which in ("robust", "other")),
                tuple(f"{role}: {which}" for role in ROLES for which in ("most", "least robust")),
                "Units that an adversary turns around least, and most: the test image that excites "
                "each most, changed until it does more so.",
            ),
        ),
        tables=(Table("shares", "Families of features; judged on {count} test images."),),
    ),
    Section(
        "Models that see some units alone",
        "The head is fitted again, by logistic regression, to half of the units: those with the "
        "largest gamma, the others, or a half that is drawn. Judged on the other test images. "
        "Radii: {radii}.",
        tables=(Table("restricted", "Accuracies under PGD-20 (upper bounds)."),),
    ),
)


def check(config: Config, parts: Splits) -> None:
    """Refuses test parts that leave nothing to judge the restricted models on."""
    if len(parts.test) <= config.count:
        raise bad_value(
            "count", f"be below the number of test images, {len(parts.test)}", config.count
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
