"""Stages about attacks on large images, judged as files of 8 bits that are read again."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import unknown_name
from notbugs.core.types import Images, Labels
from notbugs.data import safefile
from notbugs.engine import Linf
from notbugs.experiments.channel import LEVELS, through_file
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
    "cost": Column("Gradients", "backward passes an image", 0),
}
"""The columns of `AsFiles`."""


@dataclass(frozen=True)
class Aimed(ExamplesStage):
    """Adversarial images of the first test images that a net has right, towards a goal.

    - `goal`: one of `GOALS`
    """

    VERSION: ClassVar[int] = 4

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
        backwards = 0
        for i in range(len(x)):
            rows = slice(i, i + 1)
            aim = None if targets is None else targets[rows]
            result = attack(net, x[rows], y[rows], targets=aim, keys=keys[rows], fast=False)
            parts.append(result.x_adv)
            success.append(result.success)
            backwards += result.backwards
            work.progress((i + 1) / len(x))
        tensors = {"x": x, "y": y, "x_adv": torch.cat(parts), "success": torch.cat(success)}
        cost = {"gradients": repr(backwards / len(x))}
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        safefile.write_tensors(work.folder / TENSORS, tensors, cost)


def aims(stage: Aimed, net: Classifier, x: Images, y: Labels) -> Labels | None:
    """The classes [n] that images are moved to; None: any wrong one."""
    if stage.goal == "untargeted":
        return None
    if stage.goal == "random":
        return (y + random_shift(stage.net, len(x), net.classes).to(y.device)) % net.classes
    return logits_of(net, x).argmin(dim=1)


@dataclass(frozen=True)
class AsFiles(Measurement):
    """How many adversarial images are found, how near, and what remains of them in PNG files.

    **Source**: Carlini & Wagner 2016 (arXiv 1608.04644), section V-D (images must be valid ones of
    8 bits) and VII (the lowest bit).
    """

    examples: Aimed

    def measure(self, work: Work) -> Columns:
        found, net = work.load(self.examples), work.load(self.examples.net)
        targets = aims(self.examples, net, found.x, found.y)

        def reached(x: Images) -> Tensor:
            named = predicted(logits_of(net, x))
            return named != found.y if targets is None else named == targets

        stored = through_file(found.x_adv)
        levels = (LEVELS * Linf().size(stored - found.x)).round()
        noise = signs(found.x, self.examples.net.data.seed, "signs") / LEVELS
        header = safefile.read_header(work.path(self.examples) / TENSORS, what="data")
        sizes, there = Linf().size(found.x_adv - found.x)[found.success], reached(stored)
        return {
            "found": percent(found.success),
            "linf": float(sizes.double().mean()) if len(sizes) else None,
            "in_files": percent(there),
            "levels": float(levels[there].double().mean()) if bool(there.any()) else None,
            "lowest": percent(there & (levels <= 1)),
            "cost": float(header["gradients"]),
            "signs": percent(reached(through_file((found.x + noise).clamp(0, 1)))),
        }


@dataclass(frozen=True)
class AimedPictures(Illustration):
    """Images, changes, each scaled to its largest, and the files, with what they are taken for."""

    examples: Aimed

    def draw(self, work: Work) -> Pictures:
        found, net = work.load(self.examples), work.load(self.examples.net)
        stored = through_file(found.x_adv)
        largest = Linf().size(stored - found.x).clamp(min=1 / LEVELS)[:, None, None, None]
        return {
            "files.clean.images": found.x,
            "files.clean.labels": found.y,
            "files.difference": 0.5 + (stored - found.x) / (2 * largest),
            "files.adversarial": stored,
            "files.labels": predicted(logits_of(net, stored)),
            "files.true_labels": found.y,
        }
