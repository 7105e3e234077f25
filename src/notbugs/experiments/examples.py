"""Stages about the nearest adversarial examples: transfer, noise of equal size, pictures."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from notbugs.attacks.lbfgs import lbfgs
from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.data import safefile
from notbugs.experiments.experiment import Measurement, Pictures, Stage, Work
from notbugs.experiments.numbers import Columns
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.decision import predicted

TENSORS = "examples.safetensors"


@dataclass(frozen=True)
class Examples:
    """Images [n, c, h, w], their labels [n], and adversarial images [n, c, h, w] of them."""

    x: Images
    y: Labels
    x_adv: Images
    success: Tensor


@dataclass(frozen=True)
class Nearest(Stage[Examples]):
    """The nearest adversarial examples of training images that the model has right.

    - `targeted`: towards a random wrong class
    """

    model: Trained
    images: int
    steps: int
    search_steps: int
    targeted: bool = False

    @property
    def label(self) -> str:
        return f"attack {self.model.role} · seed {self.model.data.seed}"

    @property
    def cost(self) -> float:
        return 50.0 * self.images * self.steps * self.search_steps

    def make(self, work: Work) -> None:
        net, data = work.load(self.model), self.model.data.train(work)
        some = data.select(slice(0, 4 * self.images))
        x, y = some.pixels().to(work.device), some.labels.to(work.device)
        with torch.no_grad():
            right = (predicted(net.logits(x)) == y).nonzero()[: self.images, 0]
        x, y, keys = x[right], y[right], random.row_keys(len(x), self.model.data.seed)[right.cpu()]
        shift = 1 + (random.uniform(keys, ()) * (net.classes - 1)).long().to(y.device)
        targets = (y + shift) % net.classes if self.targeted else None
        attack = lbfgs(steps=self.steps, search_steps=self.search_steps)
        parts: list[Tensor] = []
        for i in range(len(x)):  # one row after the other, as the attack works
            aim = None if targets is None else targets[i : i + 1]
            found = attack(
                net, x[i : i + 1], y[i : i + 1], targets=aim, keys=keys[i : i + 1], fast=None
            )
            parts.append(torch.where(found.success[:, None, None, None], found.x_adv, torch.nan))
            work.progress((i + 1) / len(x))
        x_adv = torch.cat(parts)
        success = x_adv.flatten(1).isfinite().all(dim=1)
        tensors = {"x": x, "y": y, "x_adv": x_adv.nan_to_num(), "success": success}
        safefile.write_tensors(work.folder / TENSORS, {k: v.cpu() for k, v in tensors.items()}, {})

    def load(self, folder: Path, work: Work) -> Examples:
        tensors, _ = safefile.read_tensors(folder / TENSORS, what="data")
        return Examples(**{name: tensor.to(work.device) for name, tensor in tensors.items()})


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
            "broken": 100 * float(found.success.float().mean()),
            "distortion": float(far.mean()),
            "noise": error(net, same, found.y[found.success]),
        }


@dataclass(frozen=True)
class Transfer(Measurement):
    """Errors of nets, by name, on the examples of one.

    - `size`: the distortion that examples are amplified to; None leaves them as they are
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
        size = size if self.size is None else torch.full_like(size, self.size)
        if self.noise:
            moved = noise_like(x, size, self.examples.model.data.seed)
        else:
            moved = x_adv if self.size is None else resized(x, x_adv - x, size)
        return {name: error(work.load(net), moved, y) for name, net in self.models}


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
class Shown(Stage[Pictures]):
    """Pictures: image, magnified difference, adversarial image, and noise of equal size."""

    examples: tuple[tuple[str, Nearest], ...]
    count: int = 8

    def make(self, work: Work) -> None:
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
        safefile.write_tensors(work.folder / TENSORS, {k: v.cpu() for k, v in tensors.items()}, {})

    def load(self, folder: Path, work: Work) -> Pictures:
        return safefile.read_tensors(folder / TENSORS, what="data")[0]
