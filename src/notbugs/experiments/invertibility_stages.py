"""Stages of invertibility: what is made from a representation, and what that tells of the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from notbugs.analysis import neighbours
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.experiments.experiment import Measurement, Work, save_pictures
from notbugs.experiments.first_order import named_by
from notbugs.experiments.numbers import Columns
from notbugs.experiments.readouts import embedded
from notbugs.experiments.representation_stages import Prior
from notbugs.experiments.shared import Trained
from notbugs.judge import evaluate
from notbugs.judge.standard import evaluation_pgd
from notbugs.models import Classifier
from notbugs.models.generator import ImageGenerator
from notbugs.perception import lpips, ssim
from notbugs.representations import (
    InversionResult,
    Priors,
    default_visualisation_solver,
    invert_images,
    latent_solver,
    lbfgs_inversion,
    visualise,
)
from notbugs.representations.priors import NO_PRIORS

WEIGHTS = (0.001, 0.01, 0.1, 1.0)
"""Weights of the total variation that are tried, in units of a representation's mean length."""
MOST_KNOWN = 4000
"""Training images among which the nearest are searched."""
SHOWN = 10
SEEN = ("recognised", "ssim", "identified")
"""What correlations are taken of."""


@dataclass(frozen=True)
class Subject:
    """A model that is attacked; `trained`: False takes it before training, a control."""

    model: Trained
    trained: bool = True

    def load(self, work: Work) -> Classifier:
        """The model."""
        return work.load(self.model) if self.trained else self.model.untrained(work)


@dataclass(frozen=True)
class Accuracies(Measurement):
    """The accuracy of a model on test images in percent, clean and under PGD; its embedding."""

    subject: Subject
    threat: str

    @property
    def label(self) -> str:
        return f"evaluate {self.subject.model.role} · seed {self.subject.model.data.seed}"

    def measure(self, work: Work) -> Columns:
        threat, data = Threat.parse(self.threat), self.subject.model.data
        model, test = self.subject.load(work), data.splits(work).test
        seed = random.seed_of(data.seed, "measure")
        attacks = [evaluation_pgd(threat)]
        verdict = evaluate(model, test, threat, attacks=attacks, seed=seed, fast=False)
        return {
            "clean": verdict.clean_accuracy,
            "robust": verdict.robust_accuracy,
            "width": float(embedded(model, test.select([0])).shape[1]),
        }


@dataclass(frozen=True)
class Made:
    """Images made from representations [n, c, h, w], and how near they come to them [n]."""

    x: Images
    relative_error: Tensor | None = None


@dataclass(frozen=True)
class Reconstructed(Measurement):
    """How much of test images a model's representation of them gives away, as images.

    "relative_error" is the median over images, as an embedding may be 0; other columns are means.
    "recognised": percent that the judge takes for the true class, "voted" that the ten most similar
    training images do; "identified": percent to which, of all test images, the true one is nearest
    in pixels; "perceived": the same by the judge's LPIPS; "in_class": of those of its class alone.
    The chances are those of guessing.

    - `judge`: another model, for recognition and LPIPS; `count`: the first test images
    - `steps`: of L-BFGS, or of the search in a latent code; `shown`: a name for pictures; "": none
    """

    subject: Subject
    judge: Trained
    count: int
    steps: int
    shown: str = ""

    @property
    def label(self) -> str:
        model = self.subject.model
        return f"{type(self).__name__.lower()} of {model.role} · seed {model.data.seed}"

    @property
    def cost(self) -> float:
        return 6.0 * self.count * self.steps

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        """Images with the embeddings of the images `x`, the first of the test part `data`."""
        return of_result(
            invert_images(model, x, solver=lbfgs_inversion(self.steps), seed=self.seed)
        )

    @property
    def seed(self) -> int:
        """That of the split."""
        return self.subject.model.data.seed

    def measure(self, work: Work) -> Columns:
        parts, judge = self.subject.model.data.splits(work), work.load(self.judge)
        every, y = parts.test.pixels().to(work.device), parts.test.labels.to(work.device)
        x = every[: self.count]
        made = self.made(self.subject.load(work), x, parts.test, work)
        if self.shown:
            save_pictures({"targets": x[:SHOWN], self.shown: made.x[:SHOWN]}, work)
        perceived, few = lpips(judge), parts.train.select(slice(0, MOST_KNOWN))
        known = few.pixels().to(work.device), few.labels.to(work.device)
        error = made.relative_error
        with torch.no_grad():
            voted = neighbours(made.x, *known, classes=few.classes)
            return {
                "relative_error": None if error is None else float(error.median()),
                "rmse": float((made.x - x).square().flatten(1).mean(dim=1).sqrt().mean()),
                "ssim": float(ssim(made.x, x).mean()),
                "lpips": float(perceived(made.x, x).mean()),
                "recognised": percent(named_by(judge, made.x) == y[: self.count]),
                "voted": percent(voted == y[: self.count]),
                **identified(made.x, every, y, lambda images: images.flatten(1)),
                "perceived": identified(made.x, every, y, perceived.embed)["identified"],
            }


def of_result(result: InversionResult) -> Made:
    """The images of an inversion."""
    return Made(result.x, result.relative_error)


def identified(
    made: Images, every: Tensor, y: Tensor, embed: Callable[[Images], Tensor]
) -> dict[str, float]:
    """Percent of made images to which the image that they are of is nearest, with the chances.

    - `made` [n, c, h, w]: made of the first images of `every`, whose labels are `y`
    """
    apart = torch.cdist(embed(made).double(), embed(every).double())
    own = torch.arange(len(made), device=made.device)
    others = y[: len(made), None] != y
    in_class = apart.masked_fill(others, torch.inf).argmin(dim=1)
    return {
        "identified": percent(apart.argmin(dim=1) == own),
        "chance": 100 / len(every),
        "in_class": percent(in_class == own),
        "class_chance": 100 * float((1 / (~others).sum(dim=1)).mean()),
    }


@dataclass(frozen=True)
class FromLogits(Reconstructed):
    """The same from the model's logits: what its output gives away of an image."""

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        solver = lbfgs_inversion(self.steps)
        return of_result(invert_images(model, x, layer="logits", solver=solver, seed=self.seed))


@dataclass(frozen=True)
class FromLabel(Reconstructed):
    """Images that maximise the logit of the true class: of the class, not of the image."""

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        solver = default_visualisation_solver(NO_PRIORS, model.shape[1:], self.steps)
        labels = data.labels[: len(x)]
        made = visualise(model, labels, layer="logits", solver=solver, seed=self.seed)
        return Made(made.x)


@dataclass(frozen=True)
class NearestImage(Reconstructed):
    """The training images with the nearest embeddings: nothing is inverted."""

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        train = self.subject.model.data.train(work).select(slice(0, MOST_KNOWN))
        codes = embedded(model, data.select(slice(0, len(x))))
        apart, nearest = torch.cdist(codes, embedded(model, train)).min(dim=1)
        error = apart / codes.norm(dim=1).clamp(min=1e-12)
        return Made(train.pixels(nearest).to(x), error)


@dataclass(frozen=True)
class Smooth(Reconstructed):
    """Inversion with total variation as a prior, of the weight that is best on held-out images.

    By SSIM on as many validation images.
    """

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        val = self.subject.model.data.splits(work).val.select(slice(0, len(x)))
        held = val.pixels().to(x)
        length = float(embedded(model, val).norm(dim=1).mean())

        def inverted(images: Images, weight: float) -> InversionResult:
            priors, solver = Priors(total_variation=weight * length), lbfgs_inversion(self.steps)
            return invert_images(model, images, solver=solver, priors=priors, seed=self.seed)

        with torch.no_grad():
            quality = {w: float(ssim(inverted(held, w).x, held).mean()) for w in WEIGHTS}
        return of_result(inverted(x, max(quality, key=lambda w: quality[w])))


@dataclass(frozen=True)
class Generated(Reconstructed):
    """Inversion in the code of a generator that knows the training images: a strong attacker.

    - `prior`: the generator
    """

    prior: Prior | None = None

    def made(self, model: Classifier, x: Images, data: ImageData, work: Work) -> Made:
        assert self.prior is not None
        generator = work.load(self.prior)
        assert isinstance(generator, ImageGenerator)
        priors, solver = Priors(generator=generator), latent_solver(self.steps)
        found = invert_images(model, x, solver=solver, priors=priors, seed=self.seed)
        return of_result(found)


@dataclass(frozen=True)
class Correlated(Measurement):
    """Rank correlations, over models, of robust accuracy with what inversion gives away.

    "partial": the same at equal clean accuracy, by ranks; "clean": of clean accuracy in its place.
    None where a column is the same for all models.

    **Source**: Kendall 1942, "Partial rank correlation", with Spearman's coefficients.
    """

    models: tuple[tuple[Accuracies, Reconstructed], ...]

    def measure(self, work: Work) -> Columns:
        loaded = [(work.load(a), work.load(made)) for a, made in self.models]
        clean, robust = ([a[name] or 0.0 for a, _ in loaded] for name in ("clean", "robust"))
        row: dict[str, float | None] = {"models": float(len(loaded))}
        for name in SEEN:
            of = [made[name] or 0.0 for _, made in loaded]
            row[f"rank_{name}"] = rank(robust, of)
            row[f"partial_{name}"] = partial(robust, of, clean)
            row[f"clean_{name}"] = rank(clean, of)
        return row


def rank(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None where x or y is constant."""
    from scipy.stats import spearmanr  # takes a second to import

    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    result: Any = spearmanr(x, y)
    return float(result.statistic)


def partial(x: Sequence[float], y: Sequence[float], given: Sequence[float]) -> float | None:
    """Their rank correlation where `given` is equal; None where it is not defined."""
    xy, xz, yz = rank(x, y), rank(x, given), rank(y, given)
    if xy is None or xz is None or yz is None or max(abs(xz), abs(yz)) > 1 - 1e-9:
        return None
    return (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5


def chance_rank(models: int, *, given: int = 0) -> float:
    """The rank correlation that 5 % of random orders of so many models reach, by Student's t.

    - `given`: numbers that are held equal, each of which takes a degree of freedom
    """
    from scipy.special import stdtrit

    freedom = models - 2 - given
    t = float(stdtrit(freedom, 0.95))
    return t / (freedom + t * t) ** 0.5
