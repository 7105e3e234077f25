"""Why learning from adversarial perturbations generalises, in the case that can be solved.

A linear classifier perturbs images towards wrong classes, which become their labels; another
linear classifier learns from them. What its first step is has a closed form
(`notbugs.theory.first_update`): images average out, perturbations do not. This compares the form
with first steps on drawn targets, and with students that are trained to the end.

**Source**: the special case is asked for in the post "The Structure of Adversarial Perturbations";
the sets are those of Ilyas et al. 2019 (arXiv 1905.02175), section 3.2.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Labels
from notbugs.experiments.experiment import (
    Experiment,
    Illustration,
    Measurement,
    PaperConfig,
    Pictures,
    Row,
    Work,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell, Columns
from notbugs.experiments.perceptron_page import COLUMNS, SECTIONS
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.features import choose_targets
from notbugs.models import Classifier, frozen
from notbugs.store import AnyStage
from notbugs.theory import TARGETS, first_update, turning_points
from notbugs.training import Recipe

ByClass = Float[Tensor, "k d"]
Points = Float[Tensor, "n d"]

FACTORS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6, 2.0)
"""Multiples of the predicted turning size at which students are measured."""
MOMENTUM, PACE = 0.9, 4.0
"""Of a student's gradient descent; the rate is `PACE` over the mean squared length of an image."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `sizes`: of the perturbations, the mean L2 length of eta (w_t - w_y), rising from 0
    - `steps`: of gradient descent on all images, of a student that is trained to the end
    - `recipe`: of the source
    """

    sizes: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    steps: int = 300
    recipe: Recipe = Recipe(epochs=30, lr=0.05)  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.steps, "steps")
        if len(self.sizes) < 2 or list(self.sizes) != sorted({0.0, *self.sizes}):
            raise bad_value("sizes", "rise from 0", self.sizes)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    config = Config(data, preset, seeds=5)
    if data != "digits":
        config = replace(config, seeds=3, train_size=10_000)
        config = replace(config, recipe=replace(config.recipe, epochs=10))
    if preset == "smoke":
        config = replace(config, seeds=1, train_size=400, test_size=100, sizes=(0.0, 1.0, 2.0))
        config = replace(config, steps=10, recipe=replace(config.recipe, epochs=3))
    return config


@dataclass(frozen=True)
class Problem:
    """What a source, its training images and its test images come to.

    - `x`, `y`, `test_x`, `test_y`: images as vectors, less the mean training image, and labels
    - `centre` [d]: the mean training image
    - `means`, `weights` [k, d]: of the classes' training images; of the source, scaled until
      w_t - w_y has a mean length of 1
    """

    x: Points
    y: Labels
    test_x: Float[Tensor, "m d"]
    test_y: Int[Tensor, " m"]
    centre: Float[Tensor, " d"]
    means: ByClass
    weights: ByClass

    def moved(self, targets: Labels, size: float) -> Points:
        """The training images, moved towards other classes."""
        return self.x + size * (self.weights[targets] - self.weights[self.y])


def problem(source: Trained, work: Work, *, drawn: bool = False) -> Problem:
    """That of a linear source; `drawn` puts normal draws in the place of its weights: a control."""
    model, parts = work.load(source), source.data.splits(work)
    x, test_x = (d.pixels().flatten(1).double() for d in (parts.train, parts.test))
    centre, y = x.mean(dim=0), parts.train.labels
    means = torch.stack([x[y == k].mean(dim=0) for k in range(model.classes)]) - centre
    weights = gradients(model)
    if drawn:
        keys = random.row_keys(model.classes, source.data.seed, "weights")
        weights = random.normal(keys, weights.shape[1:], torch.float64)
    apart = (weights[:, None] - weights).norm(dim=2)
    weights = weights / (apart.sum() / (len(weights) * (len(weights) - 1)))
    return Problem(x - centre, y, test_x - centre, parts.test.labels, centre, means, weights)


def gradients(model: Classifier) -> ByClass:
    """The gradient of each logit by the pixels, [k, d], at mid grey: a linear model's weights."""
    x = torch.full((model.classes, *model.shape), 0.5, device=model.device, requires_grad=True)
    with frozen(model):
        (slopes,) = torch.autograd.grad(model.logits(x).diagonal().sum(), x)
    return slopes.flatten(1).double().cpu()


def fitted(x: Points, labels: Labels, classes: int, steps: int) -> ByClass:
    """The weights after steps of gradient descent from zero, on all images at once, [k, d]."""
    rate = PACE / float(x.square().sum(dim=1).mean())
    right, weights = F.one_hot(labels, classes).double(), x.new_zeros(classes, x.shape[1])
    velocity = torch.zeros_like(weights)
    for _ in range(steps):
        slope = ((x @ weights.T).softmax(dim=1) - right).T @ x / len(x)
        velocity = MOMENTUM * velocity - rate * slope
        weights = weights + velocity
    return weights


@dataclass(frozen=True)
class FirstSteps(Measurement):
    """What the predicted first step, a real one, and a trained student know of test images.

    - `targets`: one of `TARGETS`; `size`: of perturbations; `drawn`: along normal draws, a control
    """

    source: Trained
    targets: str
    size: float
    steps: int
    drawn: bool = False

    @property
    def cost(self) -> float:
        return 10.0 * (self.source.data.train_size or 1400)

    def measure(self, work: Work) -> Columns:
        p = problem(self.source, work, drawn=self.drawn)
        k, centred = len(p.means), p.weights - p.weights.mean(dim=0)
        t = choose_targets(self.targets, p.y, k, seed=self.source.data.seed)
        x = p.moved(t, self.size)
        boxed = (x + p.centre).clamp(0, 1) - p.centre
        predicted = first_update(self.targets, p.means, p.weights, self.size)
        images = first_update(self.targets, p.means, p.weights, 0.0)
        students = {
            "predicted": predicted,
            "first": fitted(x, t, k, 1),
            "trained": fitted(x, t, k, self.steps),
            "boxed": fitted(boxed, t, k, self.steps),
        }
        columns: dict[str, float | None] = {"chance": 100 / k}
        for name, weights in students.items():
            named = (p.test_x @ weights.T).argmax(dim=1)
            columns[name] = percent(named == p.test_y)
            columns[f"{name}_shifted"] = percent(named == (p.test_y + 1) % k)
            columns[f"{name}_cosine"] = float(_cosine(weights, centred))
        if self.size:
            columns["images"] = float(images.norm() / (predicted - images).norm())
        return columns


def _cosine(a: ByClass, b: ByClass) -> Tensor:
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0)


@dataclass(frozen=True)
class Turning(Measurement):
    """The size from which students of D_det prefer the true class to the next for half the images.

    Predicted, measured after a first step, and of a student trained to the end; None where the
    prediction is not a size above 0, or half of the images turn outside of its multiples `FACTORS`.
    """

    source: Trained
    steps: int

    @property
    def cost(self) -> float:
        return 50.0 * (self.source.data.train_size or 1400)

    def measure(self, work: Work) -> Columns:
        p = problem(self.source, work)
        k, t = len(p.means), (p.y + 1) % len(p.means)
        size = float(turning_points(p.test_x, p.test_y, p.means, p.weights).median())
        if not 0 < size < math.inf:
            return {"size": None}
        columns: dict[str, float | None] = {"size": size}
        for name, steps in (("first", 1), ("trained", self.steps)):
            shares: list[float] = []
            for factor in FACTORS:
                scores = p.test_x @ fitted(p.moved(t, factor * size), t, k, steps).T
                own, after = (scores.gather(1, c[:, None]) for c in (p.test_y, (p.test_y + 1) % k))
                shares.append(float((own > after).double().mean()))
            factor = crossing(FACTORS, shares)
            columns[f"{name}_size"] = None if factor is None else factor * size
            columns[f"{name}_ratio"] = factor
        return columns


def crossing(x: Sequence[float], shares: Sequence[float]) -> float | None:
    """Where shares first reach a half, between the points linearly; None: not between any."""
    for i, share in enumerate(shares):
        if share >= 0.5:
            if not i:
                return None  # somewhere below the first
            rise = (0.5 - shares[i - 1]) / (share - shares[i - 1])
            return x[i - 1] + rise * (x[i] - x[i - 1])
    return None


@dataclass(frozen=True)
class Weights(Illustration):
    """Weights as pictures, a class a column, each row scaled by its largest: mid grey is zero."""

    source: Trained
    size: float
    steps: int

    def draw(self, work: Work) -> Pictures:
        p = problem(self.source, work)
        k = len(p.means)
        t = choose_targets("other", p.y, k, seed=self.source.data.seed)
        x = p.moved(t, self.size)
        shown: Mapping[str, ByClass] = {
            "source": p.weights - p.weights.mean(dim=0),
            "predicted": first_update("other", p.means, p.weights, self.size),
            "first": fitted(x, t, k, 1),
            "trained": fitted(x, t, k, self.steps),
        }
        shape = (k, *work.load(self.source).shape)
        return {
            name: (0.5 + w / (2 * w.abs().max())).reshape(shape).float()
            for name, w in shown.items()
        }


def source(config: Config, seed: int) -> Trained:
    """The linear source of a seed."""
    return Trained(Data.of(config, seed), Net("linear"), config.recipe)


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    of = source(config, seed)
    for kind in TARGETS:
        for size in config.sizes:
            for end, drawn in (("", False), ("/random", True)):
                stage = FirstSteps(of, kind, size, config.steps, drawn)
                if size or not drawn:
                    yield Row("learnt", f"D_{kind}{end} at {size:g}", seed, stage)
    yield Row("turning", "D_det", seed, Turning(of, config.steps))


def pictures(config: Config) -> Sequence[AnyStage]:
    """The weights of seed 0 at the largest size."""
    return [Weights(source(config, 0), config.sizes[-1], config.steps)]


def claims(config: Config) -> Sequence[Claim]:
    """What the closed forms say."""
    largest = f"{config.sizes[-1]:g}"

    def cell(kind: str, column: str, size: str = largest) -> Cell:
        return Cell("learnt", f"D_{kind} at {size}", column)

    def turn(column: str) -> Cell:
        return Cell("turning", "D_det", column)

    none, pilot = "not published", "after a pilot on validation images of one seed"
    before = "before any run"
    return [
        Claim(
            "cosine",
            f"At size {largest} the first step on D_rand and D_other goes along the source's "
            "weights: a cosine of at least 0.9",
            none,
            AllOf(tuple(AtLeast(cell(kind, "first_cosine"), 0.9) for kind in ("rand", "other"))),
            fixed=pilot,
        ),
        Claim(
            "unperturbed",
            "Without perturbations D_other, whose labels are all wrong, teaches less than chance",
            none,
            Exceeds(cell("other", "chance", "0"), cell("other", "trained", "0")),
        ),
        Claim(
            "other",
            f"With no true label, students of D_other at size {largest} have more than half of "
            "the test images right, and 20 points more than along random directions",
            none,
            AllOf(
                (
                    AtLeast(cell("other", "trained"), 50.0),
                    Exceeds(
                        cell("other", "trained"),
                        Cell("learnt", f"D_other/random at {largest}", "trained"),
                        20.0,
                    ),
                )
            ),
            fixed=pilot,
        ),
        Claim(
            "turning",
            "After a first step, D_det turns from shifted to true labels within 10 % of the "
            "predicted size",
            none,
            AllOf((AtLeast(turn("first_ratio"), 0.9), AtMost(turn("first_ratio"), 1.1))),
            fixed=before,
        ),
        Claim(
            "turning_trained",
            "Students trained to the end turn within 10 % of it too",
            none,
            AllOf((AtLeast(turn("trained_ratio"), 0.9), AtMost(turn("trained_ratio"), 1.1))),
            fixed=before,
        ),
    ]


EXPERIMENT = Experiment(
    name="perceptron",
    paper="Ilyas et al. 2019 (arXiv 1905.02175), section 3.2, for linear classifiers",
    question="Why does learning from adversarial perturbations with wrong labels generalise?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
)
