"""Stages about what remains of adversarial images after a change that nobody optimised for."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from notbugs.attacks import bim, eot, fgsm, least_likely
from notbugs.attacks.attack import AbstractAttack
from notbugs.attacks.result import percent
from notbugs.attacks.transforms import Imaged
from notbugs.core import random
from notbugs.core.types import Images, Keys, Labels, Logits, Mask
from notbugs.data import safefile
from notbugs.engine import Last, Linf
from notbugs.experiments.examples import TENSORS, ExamplesStage
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Work,
)
from notbugs.experiments.first_order import attacked, logits_of, signs
from notbugs.experiments.numbers import Columns, Tables, means
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.models.decision import predicted
from notbugs.perception.gaussian import blurred_images
from notbugs.photo.rates import CONFIDENCE, destruction_rate

LEVELS = 255
BATCH = 10
"""Images attacked at once."""
METHODS: Mapping[str, Callable[[float], AbstractAttack]] = {
    "fast": lambda eps: fgsm(Linf(), eps),
    "basic iterative": partial(bim, keep=Last()),
    "least likely": partial(least_likely, keep=Last()),
    "expectation": partial(eot, Linf(), steps=10),
    "expectation/none": partial(
        eot, Linf(), steps=10, transform=Imaged(0.0, 0.0, 0.0, 0.0), draws=1
    ),
}
"""The methods of section 2, of a radius; and the expectation over what a camera does, with the same
steps without it as its control."""
COLUMNS = {
    "clean": Column("Clean, top 1", "of the images", unit="%"),
    "clean_5": Column("Clean, top 5", "of the images", unit="%"),
    "top_1": Column("Accuracy, top 1", "of the adversarial images", unit="%"),
    "top_5": Column("Accuracy, top 5", "of the adversarial images", unit="%"),
    "noise": Column("Signs", "top 1 under random signs of the same size", unit="%"),
    "destroyed": Column(
        "Destroyed, top 1", "of those right as clean, not as adversarial", unit="%"
    ),
    "destroyed_5": Column("Destroyed, top 5", "the same of the top 5, often of few", unit="%"),
    "kept": Column("Clean after it, top 1", "of clean images so changed", unit="%"),
    "changed": Column("Adversarial after it, top 1", "of adversarial ones so changed", unit="%"),
    "counted": Column("Images", "right as clean and not as adversarial, top 1", 0),
}
"""The columns of the measurements here."""


def in_top(logits: Logits, y: Labels, k: int) -> Mask:
    """Whether the label is among the k largest logits, [n]; for 1, as `predicted` decides."""
    if k == 1:
        return predicted(logits) == y
    return (logits.topk(min(k, logits.shape[1]), dim=1).indices == y[:, None]).any(dim=1)


@dataclass(frozen=True)
class Crafted(ExamplesStage):
    """Adversarial images of the first test images, whole levels of 8 bits.

    - `method`: one of `METHODS`; `levels`: eps, in levels of 255
    """

    net: Trained
    method: str
    levels: int
    count: int

    @property
    def label(self) -> str:
        return f"{self.method} at {self.levels} · seed {self.net.data.seed}"

    @property
    def cost(self) -> float:
        steps = 1 if self.method == "fast" else min(self.levels + 4, 1.25 * self.levels)
        return 1e4 * self.count * steps

    def make(self, work: Work) -> None:
        net = work.load(self.net)
        x, y = attacked((self.net,), work, self.count)
        x = (x * LEVELS).round() / LEVELS
        attack, parts = METHODS[self.method](self.levels / LEVELS), list[Tensor]()
        keys = random.row_keys(len(x), self.net.data.seed, "attack")
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            result = attack(net, x[rows], y[rows], keys=keys[rows], fast=False)
            parts.append(((result.x_adv * LEVELS).round() / LEVELS).cpu())
            work.progress(min(1.0, (start + BATCH) / len(x)))
        x_adv = torch.cat(parts)
        success = predicted(logits_of(net, x_adv.to(x))) != y
        tensors = {"x": x, "y": y, "x_adv": x_adv, "success": success}
        safefile.write_tensors(work.folder / TENSORS, {k: v.cpu() for k, v in tensors.items()}, {})


@dataclass(frozen=True)
class Accuracies(Measurement):
    """Accuracies of a net on images, on adversarial ones, and under random signs of their size.

    - `judge`: another net than the attacked one; None: that one
    """

    examples: Crafted
    judge: Trained | None = None

    @property
    def cost(self) -> float:
        return 1.5e4 * self.examples.count

    def measure(self, work: Work) -> Columns:
        found, net = work.load(self.examples), work.load(self.judge or self.examples.net)
        noise = signs(found.x, self.examples.net.data.seed, "signs")
        noisy = (found.x + self.examples.levels / LEVELS * noise).clamp(0, 1)
        clean, adversarial = (logits_of(net, x) for x in (found.x, found.x_adv))
        return {
            "clean": percent(in_top(clean, found.y, 1)),
            "clean_5": percent(in_top(clean, found.y, 5)),
            "top_1": percent(in_top(adversarial, found.y, 1)),
            "top_5": percent(in_top(adversarial, found.y, 5)),
            "noise": percent(in_top(logits_of(net, noisy), found.y, 1)),
        }


def brightness(x: Images, amount: float, keys: Keys) -> Images:
    """The images with `amount` levels of 255 added."""
    return (x + amount / LEVELS).clamp(0, 1)


def contrast(x: Images, amount: float, keys: Keys) -> Images:
    """The images times `amount`."""
    return (x * amount).clamp(0, 1)


def blur(x: Images, amount: float, keys: Keys) -> Images:
    """The images under a Gaussian blur of `amount` pixels, as if their edges went on."""
    return blurred_images(x, amount)


def noise(x: Images, amount: float, keys: Keys) -> Images:
    """The images with Gaussian noise of `amount` levels of 255."""
    return (x + amount / LEVELS * random.normal(keys.cpu(), x.shape[1:]).to(x)).clamp(0, 1)


def jpeg(x: Images, amount: float, keys: Keys) -> Images:
    """The images after JPEG at quality `amount`."""
    return through_file(x, "JPEG", quality=int(amount))


def through_file(x: Images, kind: str = "PNG", **options: int) -> Images:
    """The images as files of 8 bits hold them."""
    done: list[Tensor] = []
    for image in (LEVELS * x).round().to(torch.uint8).cpu():
        array = image.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(array if len(image) == 3 else array[:, :, 0]).save(file, kind, **options)
        again = np.array(Image.open(file, formats=(kind,))).reshape(array.shape)
        done.append(torch.from_numpy(again).permute(2, 0, 1))
    return torch.stack(done).to(x) / LEVELS


TRANSFORMATIONS: Mapping[str, Callable[[Images, float, Keys], Images]] = {
    "brightness": brightness,
    "contrast": contrast,
    "blur": blur,
    "noise": noise,
    "JPEG": jpeg,
}


def destruction(
    before: Logits, adversarial: Logits, after: Logits, y: Labels, k: int, *, sure: bool = False
) -> float | None:
    """Percent of adversarial images that are right again after a change; None where none counts.

    - `before`, `adversarial`, `after` [n, classes]: logits of X, X_adv and T(X_adv)
    - `k`: right is a label among the k largest logits
    - `sure`: count only pairs that the net is sure of, clean and adversarial
    """
    right = [in_top(logits, y, k) for logits in (before, adversarial, after)]
    if sure:
        confident = [z.softmax(dim=1).amax(dim=1) >= CONFIDENCE for z in (before, adversarial)]
        right = [mask[confident[0] & confident[1]] for mask in right]
    rate = destruction_rate(*right)
    return None if rate is None else 100 * rate


@dataclass(frozen=True)
class Destroyed(Measurements):
    """The destruction rates of a transformation by some amounts, accuracies after it, and means.

    A mean over amounts is None where one of them has no number.

    - `name`: one of `TRANSFORMATIONS`
    """

    VERSION: ClassVar[int] = 4

    examples: Crafted
    name: str
    amounts: tuple[float, ...]

    @property
    def cost(self) -> float:
        return 2e4 * self.examples.count * len(self.amounts)

    def measure(self, work: Work) -> Tables:
        found, net = work.load(self.examples), work.load(self.examples.net)
        keys = random.row_keys(len(found.x), self.examples.net.data.seed, self.name)
        before, adversarial = (logits_of(net, x) for x in (found.x, found.x_adv))
        counted = in_top(before, found.y, 1) & ~in_top(adversarial, found.y, 1)
        title = f"{self.examples.method}, {self.name}"
        each: dict[str, Columns] = {}
        for i, amount in enumerate(self.amounts):
            after, kept = (
                logits_of(net, TRANSFORMATIONS[self.name](x, amount, keys))
                for x in (found.x_adv, found.x)
            )
            each[f"{title} at {amount:g}"] = {
                "destroyed": destruction(before, adversarial, after, found.y, 1),
                "destroyed_5": destruction(before, adversarial, after, found.y, 5),
                "kept": percent(in_top(kept, found.y, 1)),
                "changed": percent(in_top(after, found.y, 1)),
                "counted": float(counted.sum()),
            }
            work.progress((i + 1) / len(self.amounts))
        return {"transformations": each, "kinds": {title: means(list(each.values()))}}


@dataclass(frozen=True)
class CraftedPictures(Illustration):
    """Images and adversarial ones of each method, with the changes, and what they are taken for."""

    examples: tuple[tuple[str, Crafted], ...]
    count: int = 7

    def draw(self, work: Work) -> Pictures:
        sheets: dict[str, Tensor] = {}
        for name, stage in self.examples:
            found, net = work.load(stage), work.load(stage.net)
            rows = torch.linspace(0, len(found.x) - 1, min(self.count, len(found.x))).long()
            x, x_adv, y = found.x[rows], found.x_adv[rows], found.y[rows]
            difference = (0.5 + (x_adv - x) * LEVELS / (2 * stage.levels)).clamp(0, 1)
            sheets |= {
                f"{name}.clean.images": x,
                f"{name}.clean.labels": y,
                f"{name}.difference": difference,
                f"{name}.adversarial": x_adv,
                f"{name}.labels": predicted(logits_of(net, x_adv)),
                f"{name}.true_labels": y,
            }
        return sheets
