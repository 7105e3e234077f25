"""Stages about attacks on large images, judged as files of 8 bits that are read again."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import unknown_name
from notbugs.core.types import Images, Labels
from notbugs.data import safefile
from notbugs.engine import Linf
from notbugs.experiments.channel import LEVELS
from notbugs.experiments.examples import TENSORS, ExamplesStage
from notbugs.experiments.experiment import Illustration, Measurement, Pictures, Work
from notbugs.experiments.first_order import logits_of, right, signs
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.experiments.targets import Method, random_shift
from notbugs.models import Classifier
from notbugs.models.decision import predicted

GOALS = ("untargeted", "random", "least likely")
"""Any wrong class, a random one, and the one that the clean image is least likely to be."""
COLUMNS = {
    "found": Column("Found", "of the images, in float32", unit="%"),
    "linf": Column("Linf", "mean over those found", 4),
    "in_files": Column("In files", "of the images, read again from PNG", unit="%"),
    "levels": Column("Levels", "mean largest change in those files, of 255", 1),
    "lowest": Column("One level", "reached in files by changes of at most one", unit="%"),
    "signs": Column("Signs", "reached by random signs of one level", unit="%"),
}
"""The columns of `AsFiles`."""


@dataclass(frozen=True)
class Aimed(ExamplesStage):
    """Adversarial images of the first test images that a net has right, towards a goal.

    - `goal`: one of `GOALS`
    """

    net: Trained
    method: Method
    goal: str
    count: int

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise unknown_name("goal", self.goal, GOALS)

    @property
    def label(self) -> str:
        return f"{self.method.name}, {self.goal} · seed {self.net.data.seed}"

    @property
    def cost(self) -> float:
        return 1e6 * self.count

    def make(self, work: Work) -> None:
        net, seed = work.load(self.net), self.net.data.seed
        x, y = right(self.net, net, work, self.count)
        attack, keys = self.method.attack(), random.row_keys(len(x), seed, "attack")
        targets, parts, success = aims(self, net, x, y), list[Tensor](), list[Tensor]()
        for i in range(len(x)):
            rows = slice(i, i + 1)
            aim = None if targets is None else targets[rows]
            result = attack(net, x[rows], y[rows], targets=aim, keys=keys[rows], fast=False)
            parts.append(result.x_adv)
            success.append(result.success)
            work.progress((i + 1) / len(x))
        tensors = {"x": x, "y": y, "x_adv": torch.cat(parts), "success": torch.cat(success)}
        safefile.write_tensors(work.folder / TENSORS, {k: v.cpu() for k, v in tensors.items()}, {})


def aims(stage: Aimed, net: Classifier, x: Images, y: Labels) -> Labels | None:
    """The classes [n] that images are moved to; None: any wrong one."""
    if stage.goal == "untargeted":
        return None
    if stage.goal == "random":
        return (y + random_shift(stage.net, len(x), net.classes).to(y.device)) % net.classes
    return logits_of(net, x).argmin(dim=1)


def read_again(x: Images) -> Images:
    """The images [n, c, h, w] as PNG files of 8 bits hold them."""
    files = [io.BytesIO() for _ in x]
    for image, file in zip((LEVELS * x).round().to(torch.uint8).cpu(), files, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy().squeeze()).save(file, "PNG")
    arrays = [np.array(Image.open(file, formats=("PNG",))) for file in files]
    there = torch.from_numpy(np.stack(arrays)).reshape(len(x), *x.shape[2:], x.shape[1])
    return there.permute(0, 3, 1, 2).to(x) / LEVELS


@dataclass(frozen=True)
class AsFiles(Measurement):
    """How many adversarial images are found, how near, and what remains of them in PNG files.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section V-B (images must be valid ones of
    8 bits) and VIII (the lowest bit).
    """

    examples: Aimed

    def measure(self, work: Work) -> Columns:
        found, net = work.load(self.examples), work.load(self.examples.net)
        targets = aims(self.examples, net, found.x, found.y)

        def reached(x: Images) -> Tensor:
            named = predicted(logits_of(net, x))
            return named != found.y if targets is None else named == targets

        stored = read_again(found.x_adv)
        levels = (LEVELS * Linf().size(stored - found.x)).round()
        noise = signs(found.x, self.examples.net.data.seed, "signs") / LEVELS
        sizes, there = Linf().size(found.x_adv - found.x)[found.success], reached(stored)
        return {
            "found": percent(found.success),
            "linf": float(sizes.double().mean()) if len(sizes) else None,
            "in_files": percent(there),
            "levels": float(levels[there].double().mean()) if bool(there.any()) else None,
            "lowest": percent(there & (levels <= 1)),
            "signs": percent(reached(read_again((found.x + noise).clamp(0, 1)))),
        }


@dataclass(frozen=True)
class AimedPictures(Illustration):
    """Images, changes of at most one level and the results, with what they are taken for."""

    examples: Aimed

    def draw(self, work: Work) -> Pictures:
        found, net = work.load(self.examples), work.load(self.examples.net)
        stored = read_again(found.x_adv)
        largest = Linf().size(stored - found.x).clamp(min=1 / LEVELS)[:, None, None, None]
        return {
            "files.clean.images": found.x,
            "files.clean.labels": found.y,
            "files.difference": 0.5 + (stored - found.x) / (2 * largest),
            "files.adversarial": stored,
            "files.labels": predicted(logits_of(net, stored)),
            "files.true_labels": found.y,
        }
