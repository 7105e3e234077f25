"""Stages of usefulness: features, the shares that are robust, models that see some units alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

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
from notbugs.experiments.shared import Trained
from notbugs.features import (
    Features,
    Usefulness,
    cosine_features,
    cosine_frequencies,
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

PARTS = ("first half", "second half")
"""Of cosines those of low and of high frequencies, of eigenfeatures by the eigenvalue."""
HALVES = ("all units", "robust half", "other half", "drawn half")
NUMBERS = ("rho", "gamma", "rho_error", "gamma_error", "trained")
TENSORS = "usefulness.safetensors"
SHOWN = 8
"""Units that are pictured: the most robust and the least."""


@dataclass(frozen=True)
class Judged(Stage[Usefulness]):
    """The usefulness of a model's features."""

    VERSION: ClassVar[int] = 2

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
        features = 0 if self.family in ("pixels", "cosines") else 64
        return 4.0 * self.count * self.steps * features

    def features(self, work: Work) -> Features:
        """The features themselves."""
        train = self.model.data.train(work)
        if self.family == "pixels":
            return pixel_features(train, components=self.components)
        if self.family == "cosines":
            return cosine_features(train)
        if self.family == "kernel":
            return kernel_features(train, components=self.components)
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
        safefile.write_tensors(work.folder / TENSORS, tensors, {"bound": found.bound})

    def load(self, folder: Path, work: Work) -> Usefulness:
        tensors, facts = safefile.read_tensors(folder / TENSORS, what="data")
        return Usefulness(**tensors, bound=cast(Bound, facts["bound"]))


def at_best(found: Usefulness) -> dict[str, Tensor]:
    """Numbers of each feature for the class that it is most useful for in training, [m] each."""
    best = found.trained.abs().argmax(dim=1, keepdim=True)
    columns = {name: getattr(found, name) for name in ("rho", "gamma", "useful", "robust")}
    columns["non_robust"] = found.non_robust
    return {name: column.gather(1, best)[:, 0] for name, column in columns.items()}


@dataclass(frozen=True)
class Shares(Measurement):
    """What share of features is useful, robust or not, each for its best class.

    - `part`: one of `PARTS`; "": all
    """

    judged: Judged
    part: str = ""

    def measure(self, work: Work) -> Columns:
        found = work.load(self.judged)
        best = at_best(found)
        if self.part:
            rank = self.rank(work).argsort().argsort()
            first = rank < (len(rank) + 1) // 2
            rows = first if self.part == PARTS[0] else ~first
            best = {name: column[rows] for name, column in best.items()}
        useful = best["useful"]
        return {
            "features": float(len(useful)),
            "useful": percent(useful),
            "robust": percent(best["robust"][useful]) if bool(useful.any()) else None,
            "non_robust": percent(best["non_robust"][useful]) if bool(useful.any()) else None,
            "rho": float(best["rho"].mean()),
            "gamma": float(best["gamma"].mean()),
            "taken": float((best["rho"] - best["gamma"]).mean()),
        }

    def rank(self, work: Work) -> Tensor:
        """What features are ordered by, rising: frequencies, or their numbers."""
        features = self.judged.features(work)
        if self.judged.family != "cosines":
            return features.numbers
        return cosine_frequencies(self.judged.model.data.train(work).shape)[features.numbers]


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
