"""Stages about the nearest adversarial examples: transfer, noise of equal size, pictures."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.analysis import amplification, lipschitz_bounds
from notbugs.attacks import AbstractAttack, AttackResult, ddn, lbfgs
from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.core.types import Images, Labels
from notbugs.data import safefile
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Stage,
    Work,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.decision import predicted

TENSORS = "examples.safetensors"
POOL = 8
"""How many times as many images are looked at for those that are right."""
COLUMNS = {
    "train_error": Column("Training error", "of the images that it was trained on", unit="%"),
    "test_error": Column("Test error", "of the test images", unit="%"),
    "broken": Column("Broken", "training images it has right that the attack breaks", unit="%"),
    "distortion": Column("Distortion", "root mean square change of a pixel", 3),
    "images": Column("Images", "attacked", 0),
    "of_other_class": Column(
        "Of the way", "distortion, of that to the nearest image of another class", unit="%"
    ),
    "others": Column("All others", "mean over the nets that are not attacked", unit="%"),
    "noise": Column(
        "Error under noise", "of the same images under noise of the same sizes", unit="%"
    ),
    "lipschitz": Column("Bound", "product of the layers' upper Lipschitz bounds", None),
    "bound": Column("Bound", "an upper bound of any change's gain in L2", None),
    "adversarial": Column("Adversarial", "the mean gain of the adversarial changes", None),
    "random": Column("Random", "that of Gaussian changes of the same size", None),
    "correlation": Column("Correlation", "Spearman's, over the nets", 2),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Examples:
    """Images [n, c, h, w], their labels [n], and adversarial images [n, c, h, w] of them."""

    x: Images
    y: Labels
    x_adv: Images
    success: Tensor


class ExamplesStage(Stage[Examples]):
    """A stage whose result is images and adversarial ones of them."""

    def load(self, folder: Path, work: Work) -> Examples:
        tensors, _ = safefile.read_tensors(folder / TENSORS, what="data")
        return Examples(**{name: tensor.to(work.device) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Nearest(ExamplesStage):
    """The nearest adversarial examples of the first images that the model has right.

    - `part`: "train" (what the model was trained on) or "test"
    - `also`: nets that have the images right as well
    - `targeted`: towards a random wrong class
    - `method`: "lbfgs", or "ddn" with 10 `steps`, for larger nets
    """

    VERSION: ClassVar[int] = 2

    model: Trained
    images: int
    steps: int
    search_steps: int
    also: tuple[Trained, ...] = ()
    targeted: bool = False
    method: str = "lbfgs"
    part: str = "train"

    @property
    def label(self) -> str:
        return f"attack {self.model.role} · seed {self.model.data.seed}"

    @property
    def cost(self) -> float:
        return 50.0 * self.images * self.steps * self.search_steps

    def make(self, work: Work) -> None:
        net, data = work.load(self.model), self.model.data
        images = data.train(work) if self.part == "train" else data.splits(work).test
        some = images.select(slice(0, POOL * self.images))
        x, y = some.pixels().to(work.device), some.labels.to(work.device)
        right = torch.ones_like(y, dtype=torch.bool)
        with torch.no_grad():
            for other in (net, *map(work.load, self.also)):
                right &= predicted(other.logits(x)) == y
        rows = right.nonzero()[: self.images, 0]
        if not len(rows):
            raise DataError(
                f"{self.model.role} (seed {self.model.data.seed}) and the nets beside it have none "
                f"of {len(some)} images ({self.part}) right. Train for longer."
            )
        keys = random.row_keys(len(x), self.model.data.seed)[rows.cpu()]
        x, y = x[rows], y[rows]
        shift = 1 + (random.uniform(keys, ()) * (net.classes - 1)).long().to(y.device)
        targets = (y + shift) % net.classes if self.targeted else None
        attack: AbstractAttack = ddn(steps=10 * self.steps)
        if self.method == "lbfgs":
            attack = lbfgs(steps=self.steps, search_steps=self.search_steps)
        parts: list[AttackResult] = []
        for part in torch.arange(len(x), device=x.device).split(64):
            aims, own = None if targets is None else targets[part], keys[part.cpu()]
            parts.append(attack(net, x[part], y[part], targets=aims, keys=own, fast=None))
            work.progress((int(part[-1]) + 1) / len(x))
        tensors = {"x": x, "y": y, "x_adv": torch.cat([part.x_adv for part in parts])}
        tensors["success"] = torch.cat([part.success for part in parts])
        safefile.write_tensors(work.folder / TENSORS, {k: v.cpu() for k, v in tensors.items()}, {})


def distortion(moved: Images, x: Images) -> Tensor:
    """sqrt(sum((x' - x)^2) / n) of each row, n the number of pixels (section 4.2)."""
    return (moved - x).flatten(1).square().mean(dim=1).sqrt()


def resized(x: Images, direction: Images, size: Tensor) -> Images:
    """x + s * direction cut to [0, 1], with s such that the distortion of each row is `size`.

    By bisection; where the pixels' box forbids that size, as large as it allows.
    """
    low, high = torch.zeros_like(size), torch.full_like(size, 1e4)
    for _ in range(60):
        s = (low + high) / 2
        small = distortion((x + s[:, None, None, None] * direction).clamp(0, 1), x) < size
        low, high = torch.where(small, s, low), torch.where(small, high, s)
    return (x + high[:, None, None, None] * direction).clamp(0, 1)


def noise_like(x: Images, size: Tensor, seed: int) -> Images:
    """The images with Gaussian noise of those distortions."""
    keys = random.row_keys(len(x), seed, "noise", device=x.device)
    return resized(x, random.normal(keys, x.shape[1:]).to(x), size)


def error(net: Classifier, x: Images, y: Labels) -> float:
    """The percentage of images that a net does not classify as their labels."""
    with torch.no_grad():
        return 100 * float((predicted(net.logits(x)) != y).float().mean())


@dataclass(frozen=True)
class Bounds(Measurement):
    """A net's errors in percent, and how far its nearest adversarial examples are."""

    examples: Nearest

    def measure(self, work: Work) -> Columns:
        trained, found = self.examples.model, work.load(self.examples)
        net, parts = work.load(trained), trained.data.splits(work)
        far = distortion(found.x_adv, found.x)[found.success]
        same = noise_like(found.x[found.success], far, trained.data.seed)
        return {
            "train_error": 100 - accuracy(net, trained.data.train(work)),
            "test_error": 100 - accuracy(net, parts.test),
            "images": float(len(found.x)),
            "broken": 100 * float(found.success.float().mean()),
            "distortion": float(far.mean()),
            "of_other_class": 100 * float(far.mean()) / _to_another_class(found, trained, work),
            "noise": error(net, same, found.y[found.success]),
            "lipschitz": _product(net),
        }


def _to_another_class(found: Examples, trained: Trained, work: Work) -> float:
    """The mean distortion from the images to the nearest training image of another class."""
    data = trained.data.train(work)
    x, y = data.pixels().to(work.device).flatten(1), data.labels.to(work.device)
    apart = torch.cdist(found.x.flatten(1), x)
    apart = apart.masked_fill(found.y[:, None] == y[None, :], float("inf"))
    return float(apart.amin(dim=1).mean()) / x.shape[1] ** 0.5


def _product(net: Classifier) -> float | None:
    """The product of the layers' bounds; None for a net that is no chain of known layers."""
    try:
        return math.prod(lipschitz_bounds(net).values())
    except ValueError:
        return None


@dataclass(frozen=True)
class Amplification(Measurements):
    """By how much each layer, and all of them, lengthen changes of the image, and upper bounds.

    Means over the images of the examples: of the adversarial changes, and of Gaussian ones of the
    same size.

    - `layers`: their names in the net, and in the table
    """

    examples: Nearest
    layers: tuple[tuple[str, str], ...]

    def measure(self, work: Work) -> Tables:
        found, seed = work.load(self.examples), self.examples.model.data.seed
        x, x_adv = found.x[found.success], found.x_adv[found.success]
        net, noisy = work.load(self.examples.model), noise_like(x, distortion(x_adv, x), seed)
        bounds = lipschitz_bounds(net)
        table: dict[str, dict[str, float | None]] = {
            title: {"bound": bounds[layer]} for layer, title in self.layers
        }
        table["all"] = {"bound": math.prod(bounds.values())}
        for name, moved in {"adversarial": x_adv, "random": noisy}.items():
            ratios = amplification(net, x, moved)
            for layer, title in self.layers:
                table[title][name] = float(ratios[layer].mean())
            table["all"][name] = float(torch.stack(list(ratios.values())).prod(dim=0).mean())
        return {"layers": table}


@dataclass(frozen=True)
class RankCorrelation(Measurement):
    """Spearman's rank correlation, over nets, of the test error and the distortion, -1 to 1."""

    nets: tuple[Bounds, ...]

    def measure(self, work: Work) -> Columns:
        from scipy.stats import spearmanr  # takes a second to import

        columns = [work.load(net) for net in self.nets]
        pairs = [(c["test_error"] or 0.0, c["distortion"] or 0.0) for c in columns]
        return {"correlation": float(spearmanr(*zip(*pairs, strict=True)).statistic)}  # pyright: ignore


@dataclass(frozen=True)
class Transfer(Measurement):
    """Errors of nets, by name, on the examples of one.

    "others" is the mean over all nets but the one that the examples are of.

    - `size`: the distortion that nearer examples are amplified to; None leaves them as they are
    - `noise`: Gaussian noise of the same distortions in place of the examples
    """

    examples: Nearest
    models: tuple[tuple[str, Trained], ...]
    size: float | None = None
    noise: bool = False

    def measure(self, work: Work) -> Columns:
        found = work.load(self.examples)
        x, y, x_adv = (t[found.success] for t in (found.x, found.y, found.x_adv))
        size = distortion(x_adv, x)
        size = size if self.size is None else size.clamp(min=self.size)
        if self.noise:
            moved = noise_like(x, size, self.examples.model.data.seed)
        else:
            moved = x_adv if self.size is None else resized(x, x_adv - x, size)
        errors = {name: error(work.load(net), moved, y) for name, net in self.models}
        others = [errors[name] for name, net in self.models if net != self.examples.model]
        return {**errors, "others": sum(others) / len(others)}


@dataclass(frozen=True)
class Noisy(Measurement):
    """Errors of nets, by name, on the images of one net's examples under Gaussian noise."""

    examples: Nearest
    models: tuple[tuple[str, Trained], ...]
    sigma: float

    def measure(self, work: Work) -> Columns:
        found, seed = work.load(self.examples), self.examples.model.data.seed
        keys = random.row_keys(len(found.x), seed, "sigma", self.sigma, device=found.x.device)
        noise = self.sigma * random.normal(keys, found.x.shape[1:]).to(found.x)
        moved = (found.x + noise).clamp(0, 1)
        return {name: error(work.load(net), moved, found.y) for name, net in self.models}


@dataclass(frozen=True)
class Shown(Illustration):
    """Pictures: image, magnified difference, adversarial image, and noise of equal size."""

    examples: tuple[tuple[str, Nearest], ...]
    count: int = 8

    def draw(self, work: Work) -> Pictures:
        tensors: dict[str, Tensor] = {}
        for name, stage in self.examples:
            found = work.load(stage)
            rows = found.success.nonzero()[: self.count, 0]
            x, x_adv = found.x[rows], found.x_adv[rows]
            scale = 0.5 / (x_adv - x).flatten(1).abs().amax(dim=1)
            tensors[f"{name}.images"] = x
            tensors[f"{name}.difference"] = 0.5 + scale[:, None, None, None] * (x_adv - x)
            tensors[f"{name}.adversarial"] = x_adv
            tensors[f"{name}.noise"] = noise_like(x, distortion(x_adv, x), stage.model.data.seed)
        return tensors
