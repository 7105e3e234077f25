"""Stages of usefulness: features, the shares that are robust, models that see some units alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.types import Images
from notbugs.data import safefile
from notbugs.engine import Threat
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Stage,
    Work,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.shared import Data, Trained
from notbugs.features import (
    Features,
    Usefulness,
    cosine_features,
    cosine_frequencies,
    feature_classifier,
    feature_weights,
    features_of,
    kernel_features,
    pixel_features,
    restricted,
    usefulness,
)
from notbugs.features.usefulness import Bound
from notbugs.judge import accuracy, evaluate
from notbugs.judge.standard import evaluation_pgd
from notbugs.representations import visualise
from notbugs.training import Adversary, Recipe

PARTS = ("first half", "second half")
"""Of cosines by frequency, of components and eigenfeatures by the eigenvalue, falling."""
HALVES = ("all units", "robust half", "other half", "drawn half")
LOSSES = ("empirical risk", "adversarial loss")
NUMBERS = ("rho", "gamma", "rho_error", "gamma_error", "trained", "numbers")
TENSORS = "usefulness.safetensors"
SHOWN = 8
"""Units that are pictured: the most robust and the least."""


@dataclass(frozen=True)
class Judged(Stage[Usefulness]):
    """The usefulness of features, of a model or of the pixels.

    - `of`: the model; of families that need none the data
    """

    VERSION: ClassVar[int] = 2

    of: Trained | Data
    family: str
    threat: str
    count: int
    components: int
    steps: int

    @property
    def data(self) -> Data:
        """The data that features are judged on."""
        return self.of if isinstance(self.of, Data) else self.of.data

    @property
    def model(self) -> Trained:
        """The model, which there must be."""
        assert isinstance(self.of, Trained)
        return self.of

    @property
    def label(self) -> str:
        name = self.data.name if isinstance(self.of, Data) else self.of.role
        return f"features of {name}, {self.family} · seed {self.data.seed}"

    @property
    def cost(self) -> float:
        features = 0 if self.family in ("pixels", "cosines") else 64
        return 4.0 * self.count * self.steps * features

    def features(self, work: Work) -> Features:
        """The features themselves."""
        train = self.data.train(work)
        if self.family == "pixels":
            return pixel_features(train, components=self.components)
        if self.family == "cosines":
            return cosine_features(train)
        if self.family == "kernel":
            return kernel_features(train, components=self.components)
        count = self.components if self.family == "components" else None
        return features_of(work.load(self.model), train, components=count)

    def make(self, work: Work) -> None:
        parts = self.data.splits(work)
        some = parts.test.select(slice(0, self.count))
        found = usefulness(
            self.features(work),
            parts.train,
            some,
            Threat.parse(self.threat),
            steps=self.steps,
            seed=random.seed_of(self.data.seed, "usefulness"),
            progress=work.progress,
        )
        tensors = {name: getattr(found, name).contiguous() for name in NUMBERS}
        safefile.write_tensors(work.folder / TENSORS, tensors, {"bound": found.bound})

    def load(self, folder: Path, work: Work) -> Usefulness:
        tensors, facts = safefile.read_tensors(folder / TENSORS, what="data")
        return Usefulness(**tensors, bound=cast(Bound, facts["bound"]))


@dataclass(frozen=True)
class Shares(Measurement):
    """What share of features is useful, robust or not, each for its best class.

    "rho", "gamma" and "taken", their difference, are means over the useful.

    - `part`: one of `PARTS`; "": all
    """

    judged: Judged
    part: str = ""

    def measure(self, work: Work) -> Columns:
        found = work.load(self.judged)
        best = found.at_best()
        if self.part:
            order = self.values(found, work).argsort(stable=True)
            first = order.argsort() < (len(order) + 1) // 2
            rows = first if self.part == PARTS[0] else ~first
            best = {name: column[rows] for name, column in best.items()}
        useful = best["useful"]
        row: dict[str, float | None] = {"features": float(len(useful)), "useful": percent(useful)}
        if bool(useful.any()):
            row |= {name: percent(best[name][useful]) for name in ("robust", "non_robust")}
            rho, gamma = (best[name][useful].mean() for name in ("rho", "gamma"))
            row |= {"rho": float(rho), "gamma": float(gamma), "taken": float(rho - gamma)}
        return row

    def values(self, found: Usefulness, work: Work) -> Tensor:
        """What features are ordered by, rising: frequencies, or their numbers."""
        if self.judged.family != "cosines":
            return found.numbers
        return cosine_frequencies(self.judged.data.train(work).shape)[found.numbers]


@dataclass(frozen=True)
class Points(Measurements):
    """rho and gamma of each useful feature, by its number."""

    VERSION: ClassVar[int] = 2

    judged: Judged

    def measure(self, work: Work) -> Tables:
        found, role = work.load(self.judged), self.judged.model.role
        best = found.at_best()
        useful = best["useful"]
        columns = (of[useful] for of in (found.numbers, best["rho"], best["gamma"]))
        points = zip(*(column.tolist() for column in columns), strict=True)
        return {"points": {f"{role} at {i}": {"rho": a, "gamma": b} for i, a, b in points}}


def half_of(judged: Judged, half: str, work: Work) -> Tensor:
    """The numbers of the units of one of `HALVES`: by gamma for the best class, or drawn."""
    found = work.load(judged)
    order = found.at_best()["gamma"].argsort(descending=True, stable=True)
    middle = len(order) // 2
    if half == "drawn half":
        order = torch.randperm(len(order), generator=random.generator(judged.data.seed, "half"))
    chosen = {"all units": order, "other half": order[middle:]}.get(half, order[:middle])
    return found.numbers[chosen.sort().values]


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
class Weights(Measurements):
    """Linear classifiers of a model's units by empirical risk and by adversarial loss.

    "clean" and "withstood", under the threat, of test images that the units were not judged on;
    "with_gamma", "with_rho": the rank correlation over units of a classifier's weights with what an
    adversary leaves of a unit, and with its usefulness; "kept": the same of the weight by
    adversarial loss over that by empirical risk.
    """

    judged: Judged
    recipe: Recipe

    @property
    def cost(self) -> float:
        return 10.0 * self.recipe.epochs * (self.judged.data.train_size or 1400)

    def measure(self, work: Work) -> Tables:
        from scipy.stats import spearmanr  # takes a second to import

        found, of = work.load(self.judged).at_best(), self.judged.model
        features, data = self.judged.features(work), of.data.train(work)
        test = of.data.splits(work).test.select(slice(self.judged.count, None))
        threat = Threat.parse(self.judged.threat)
        attack = evaluation_pgd(threat)
        table: dict[str, Columns] = {}
        weights: dict[str, Tensor] = {}
        against = Adversary(self.judged.threat, steps=5)
        for loss, adversary in zip(LOSSES, (None, against), strict=True):
            recipe = replace(self.recipe, adversary=adversary)
            made = feature_classifier(features, data, recipe, seed=of.data.seed)
            seed = random.seed_of(of.data.seed, "measure")
            verdict = evaluate(made, test, threat, attacks=[attack], seed=seed, fast=False)
            weights[loss] = feature_weights(made)
            table[loss] = {"clean": verdict.clean_accuracy, "withstood": verdict.robust_accuracy}
        table["kept"], weights["kept"] = {}, weights[LOSSES[1]] / weights[LOSSES[0]]
        rows: dict[str, Columns] = {}
        for name, columns in table.items():
            ranks: dict[str, float] = {}
            for of_what in ("rho", "gamma"):
                result: Any = spearmanr(weights[name], found[of_what])
                ranks[f"with_{of_what}"] = float(result.statistic)
            rows[f"{of.role}, {name}"] = {**columns, **ranks}
        return {"weights": rows}


@dataclass(frozen=True)
class UnitPictures(Illustration):
    """What the most robust units of a model and the least look for: images that excite them."""

    judged: Judged

    def draw(self, work: Work) -> Pictures:
        gamma, model = work.load(self.judged).at_best()["gamma"], work.load(self.judged.model)
        features, order = self.judged.features(work), gamma.argsort(descending=True, stable=True)
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
