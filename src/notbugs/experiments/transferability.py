"""Do adversarial examples transfer to those architectures that learn the same features?

Several architectures are trained in the same way. Adversarial examples of one are tried on the
others; and the others learn from D_other, whose perturbations are all that it teaches, made with
that one. Where perturbations are features, the nets that learn most from them are those to which
they transfer best. Then transfer from each to each, and by how robust the source is.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 3.2 and Figure 3; slightly robust sources,
Springer et al. 2021 (arXiv 2106.02105).
**Differs from the papers**: D_other and targeted examples in the place of D_det, whose labels tell
the true ones; small nets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from notbugs.attacks import pgd
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images
from notbugs.engine import Threat
from notbugs.experiments.constructed import Learnt
from notbugs.experiments.experiment import Experiment, Measurement, Row, Work
from notbugs.experiments.first_order import named_by
from notbugs.experiments.main_models import HEADLINE, SetsConfig, main_settings, targeted
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell, Columns
from notbugs.experiments.page import Column, Lines, Matrix, Scatter, Section, Table
from notbugs.experiments.rules import AllOf, AtLeast, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.features import choose_targets
from notbugs.features.size import along
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.zoo import ARCHITECTURES
from notbugs.training import Adversary, Recipe

NETS = (
    Net("resnet18", (("width", 8),)),
    Net("vgg16", (("width", 8),)),
    Net("densenet", (("depth", 16), ("growth", 8))),
    Net("inception", (("width", 16),)),
    Net("wide", (("depth", 10), ("widen", 1))),
    Net("cnn", (("width", 16), ("hidden", 64))),
    Net("mlp"),
)
"""Small versions of the paper's five architectures, a plain convolutional net and dense layers."""


@dataclass(frozen=True)
class Config(SetsConfig):
    """The settings of a run.

    - `nets`: the architectures; the first is the source of D_other, and of the trained radii
    - `count`: test images that are attacked
    - `radii`: at which the source is trained adversarially, rising from 0 (standard)
    - `standard`: the training of all models, students too; `inner_steps`: of PGD in that of robust
      sources, which is otherwise the same
    """

    nets: tuple[Net, ...] = NETS
    count: int = 400
    radii: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    inner_steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("count", "inner_steps"):
            check_count(getattr(self, name), name)
        if len(self.radii) < 2 or list(self.radii) != sorted({0.0, *self.radii}):
            raise bad_value("radii", "rise from 0", self.radii)
        names = [net.architecture for net in self.nets]
        if len(names) < 4 or len(set(names)) < len(names):
            raise bad_value("nets", "be four architectures or more, each once", ", ".join(names))


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: trainings as in the main experiment."""
    main = main_settings(data, preset)
    config = Config(data, preset, seeds=5, train_size=main.train_size, test_size=main.test_size)
    config = replace(config, eps=HEADLINE.get(data, main.eps_eval / 2))
    # A lower rate than the main experiment's: one at which all architectures learn.
    config = replace(config, standard=replace(main.standard, lr=0.05))
    if data == "digits":
        config = replace(config, count=397)
    else:
        # Robust sources cost most of a run: two less, and fewer steps.
        config = replace(config, seeds=3, radii=(0.0, 0.25, 1.0), inner_steps=3)
    if preset == "smoke":
        names = {"mlp": 64, "strided": 4}
        small = tuple(Net(name, (("width", width),)) for name, width in names.items())
        small = (*small, Net("fc"), Net("linear"))
        config = replace(config, seeds=1, nets=small, steps=3, count=60, radii=(0.0, 0.5))
    return config


@dataclass(frozen=True)
class Attacked(Measurement):
    """A source's adversarial examples, tried on other models, one column each.

    "to_NAME": percent of the test images that both have right and that the other then has wrong;
    "others": the mean over those of another architecture; "own": of the source itself.

    - `noise`: random changes of the same size in place of the examples
    - `targeted`: towards a drawn class; then a success is to be taken for it
    """

    source: Trained
    others: tuple[Trained, ...]
    threat: Threat
    steps: int
    count: int
    noise: bool = False
    targeted: bool = False

    @property
    def label(self) -> str:
        return f"transfer from {self.source.net.architecture} · seed {self.source.data.seed}"

    @property
    def cost(self) -> float:
        return 3.0 * self.count * self.steps

    def measure(self, work: Work) -> Columns:
        source, data = work.load(self.source), self.source.data
        test = data.splits(work).test.select(slice(0, self.count))
        x, y = test.pixels().to(work.device), test.labels.to(work.device)
        aims = choose_targets("other", test.labels, test.classes, seed=data.seed).to(y.device)
        moved = self.changed(source, x, y, aims if self.targeted else None)
        right = named_by(source, x) == y

        def fooled(model: Classifier) -> float:
            kept = right & (named_by(model, x) == y)
            now = named_by(model, moved)
            return percent((now == aims if self.targeted else now != y)[kept])

        row: dict[str, float | None] = {"own": fooled(source)}
        for other in self.others:
            row[to(other)] = fooled(work.load(other))
        apart = [row[to(other)] or 0.0 for other in self.others if other.net != self.source.net]
        return {**row, "others": sum(apart) / len(apart)}

    def changed(self, model: Classifier, x: Images, y: Tensor, aims: Tensor | None) -> Images:
        """The examples, of the threat's size at most, or images under noise of that size."""
        norm, eps, seed = self.threat.as_norm("transfer"), self.threat.eps, self.source.data.seed
        if self.noise:
            drawn = random.normal(random.row_keys(len(x), seed, "noise"), x.shape[1:]).to(x)
            return along(x, drawn, norm, eps).x
        attack = pgd(norm, eps, steps=self.steps, random_start=False)
        return attack(model, x, y, targets=aims, seed=seed, fast=False).x_adv


def to(model: Trained) -> str:
    """The column of what is tried on a model."""
    return f"to_{model.net.architecture}"


@dataclass(frozen=True)
class Right(Measurement):
    """Accuracy on test images, in percent."""

    model: Trained

    def measure(self, work: Work) -> Columns:
        return {"accuracy": accuracy(work.load(self.model), self.model.data.splits(work).test)}


@dataclass(frozen=True)
class One(Measurement):
    """One column of a measurement, under another name."""

    of: Attacked
    column: str
    name: str

    def measure(self, work: Work) -> Columns:
        return {self.name: work.load(self.of)[self.column]}


@dataclass(frozen=True)
class Correlated(Measurement):
    """Correlations, over architectures other than the source's, of transfer to them and learning.

    - `transfer`: whose columns "to_NAME" are taken; `learnt`: what each learnt, in the same order
    """

    transfer: Attacked
    learnt: tuple[Learnt, ...]

    def measure(self, work: Work) -> Columns:
        from scipy.stats import pearsonr, spearmanr  # take a second to import

        columns = work.load(self.transfer)
        others = [
            i for i, o in enumerate(self.transfer.others) if o.net != self.transfer.source.net
        ]
        x = [columns[to(self.transfer.others[i])] for i in others]
        y = [work.load(self.learnt[i])["clean"] for i in others]
        rank: Any = spearmanr(x, y)
        line: Any = pearsonr(x, y)
        found = {"rank": float(rank.statistic), "line": float(line.statistic)}
        # All equal, as untrained nets may be: no correlation is defined.
        return {name: value if value == value else None for name, value in found.items()}


def model(config: Config, seed: int, net: Net, trained_at: float = 0.0) -> Trained:
    """A model of an architecture; of a source that is trained at a radius, a robust one."""
    recipe = config.standard
    if trained_at:
        adversary = Adversary(
            str(config.threat_of(trained_at)), steps=config.inner_steps, eps_warmup=0.4
        )
        recipe = replace(recipe, adversary=adversary)
    return Trained(Data.of(config, seed), net, recipe, "robust" if trained_at else "standard")


def attacked(config: Config, source: Trained, **options: bool) -> Attacked:
    """A source's examples on standard models of all architectures."""
    others = tuple(model(config, source.data.seed, net) for net in config.nets)
    return Attacked(source, others, config.threat, config.steps, config.count, **options)


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    source = model(config, seed, config.nets[0])
    made = targeted(config, source, "other")
    aimed = attacked(config, source, targeted=True)
    learnt: list[Learnt] = []
    for i, net in enumerate(config.nets):
        name, of = net.architecture, model(config, seed, net)
        student = Trained(Data.of(config, seed), net, config.standard, "student", made)
        learnt.append(Learnt((("", student),)))
        yield Row("nets", name, seed, Right(of))
        yield Row("nets", name, seed, learnt[-1])
        if i:
            plain, noise = attacked(config, source), attacked(config, source, noise=True)
            yield Row("nets", name, seed, One(aimed, to(of), "targeted"))
            yield Row("nets", name, seed, One(plain, to(of), "transfer"))
            yield Row("nets", name, seed, One(noise, to(of), "noise"))
        yield Row("matrix", name, seed, attacked(config, of))
    yield Row("matrix", "any/noise", seed, attacked(config, source, noise=True))
    yield Row("correlation", "all but the source", seed, Correlated(aimed, tuple(learnt)))
    for trained_at in config.radii:
        robust = model(config, seed, config.nets[0], trained_at)
        yield Row("robust", f"source at {trained_at:g}", seed, attacked(config, robust))


def claims(config: Config) -> Sequence[Claim]:
    """What features that are shared lead to expect."""
    figure, none = "figure 3, a picture", "not published"
    others = [net.architecture for net in config.nets[1:]]
    small = f"{config.radii[1]:g}"
    return [
        Claim(
            "transfer",
            "The source's examples fool every other architecture, 20 points more often than "
            "random changes of the same size",
            none,
            AllOf(
                tuple(
                    Exceeds(Cell("nets", n, "transfer"), Cell("nets", n, "noise"), 20.0)
                    for n in others
                )
            ),
            fixed="before any run",
        ),
        Claim(
            "learnt",
            "Every other architecture learns 20 % of the true labels or more from the source's "
            "D_other, which has none",
            none,
            AllOf(tuple(AtLeast(Cell("nets", n, "clean"), 20.0) for n in others)),
            fixed="before any run",
        ),
        Claim(
            "order",
            "The more an architecture learns from the source's perturbations, the better they "
            "transfer to it: a rank correlation that chance orders of six do not have",
            figure,
            AtLeast(Cell("correlation", "all but the source", "rank"), 0.83),
            fixed="the 5 % point of six architectures in random order, before any run",
        ),
        Claim(
            "slightly",
            f"A source that was trained at {small} transfers better than a standard one",
            "Springer et al. 2021, in words; not published as a number",
            Exceeds(
                Cell("robust", f"source at {small}", "others"),
                Cell("robust", "source at 0", "others"),
            ),
        ),
    ]


COLUMNS = {
    "accuracy": Column("Accuracy", "of test images, trained on images", unit="%"),
    "clean": Column("Learnt", "true labels of test images, trained on D_other", unit="%"),
    "shifted": Column("Shifted", "the next class instead", unit="%"),
    "chance": Column("Chance", unit="%"),
    "true_labels": Column("True labels", "in the set", unit="%"),
    "source_success": Column("Source fooled", "images of the set", unit="%"),
    "distance": Column("Distance", "of the set's perturbations", 2),
    "images": Column("Images", "in the set", 0),
    "dropped": Column("Dropped", "that could not be changed by eps", 0),
    "targeted": Column("Targeted transfer", "taken for the class that is aimed at", unit="%"),
    "transfer": Column("Transfer", "misclassified, of those that both had right", unit="%"),
    "noise": Column("Noise", "of the same size: misclassified", unit="%"),
    "own": Column("Own", "of the source itself", unit="%"),
    "others": Column("Others", "mean over other architectures", unit="%"),
    "rank": Column("Rank", "Spearman's correlation", 2),
    "line": Column("Linear", "Pearson's", 2),
} | {f"to_{name}": Column(f"To {name}", unit="%") for name in ARCHITECTURES}

SECTIONS = (
    Section(
        "Learning and transfer",
        "The source is the first architecture. Its adversarial examples, {norm} {eps}, are tried "
        "on the others; and the others learn from its D_other: training images that are perturbed "
        "towards a drawn wrong class, which is their label. Test images and true labels.",
        figures=(
            Scatter("nets", "clean", "targeted", "Each architecture but the source, each seed."),
        ),
        tables=(
            Table("nets", "Architectures, and what they learn and are fooled by."),
            Table("correlation", "Correlation of learning with targeted transfer."),
        ),
    ),
    Section(
        "From each to each",
        "Rows are sources, columns the models that their examples are tried on.",
        figures=(
            Matrix(
                "matrix",
                "Misclassified, of the images that both have right.",
                "%",
                tuple(f"to_{name}" for name in ARCHITECTURES),
            ),
        ),
        tables=(Table("matrix", "The same in numbers."),),
    ),
    Section(
        "Robust sources",
        "The source trained adversarially at several radii, its examples always {norm} {eps}.",
        figures=(
            Lines(
                "robust",
                ("others", "own"),
                "Fooled by examples of a source, by the radius that it was trained at.",
                "misclassified, %",
                "training radius",
            ),
        ),
        tables=(Table("robust", "Transfer from robust sources."),),
    ),
)

EXPERIMENT = Experiment(
    name="transferability",
    paper="Ilyas et al. 2019 (arXiv 1905.02175), Figure 3; Springer et al. 2021 (2106.02105)",
    question="Do adversarial examples transfer to architectures that learn the same features?",
    datasets=("digits", "mnist", "fashion-mnist"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
    takes={"digits": 10},
)
