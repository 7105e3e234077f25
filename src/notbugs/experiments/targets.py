"""Stages about attacks towards every class: distances, temperatures, confidence, grids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from notbugs import attacks
from notbugs.attacks import AbstractAttack, best_average_worst
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.core.types import Images, Labels
from notbugs.engine import L0, L2, AbstractNorm, Linf
from notbugs.experiments.examples import noise_like
from notbugs.experiments.experiment import Illustration, Measurement, Pictures, Work
from notbugs.experiments.first_order import attacked, logits_of, right, slopes
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models.decision import predicted

COLUMNS = {
    "best": Column("Best case", "mean distance of the nearest class", 3),
    "best_success": Column("Success, best", "of images, any class reached", unit="%"),
    "average": Column("Average", "mean distance over the classes reached", 3),
    "average_success": Column("Success, average", "of the classes", unit="%"),
    "worst": Column("Worst case", "mean distance of the farthest class", 3),
    "worst_success": Column("Success, worst", "of images, all classes reached", unit="%"),
    "gradients": Column("Gradients", "backward passes an image and class", 0),
    "error": Column("Test error", "of the test images", 2, "%"),
    "earlier": Column("Earlier attack", "JSMA-F, classes reached", unit="%"),
    "reached": Column("C&W L2", "classes reached", unit="%"),
    "distance": Column("C&W distance", "mean L2 over the classes reached", 3),
    "logit": Column("Logits", "mean of the largest less the mean", 1),
    "logit_5": Column("Logits, 5 %", "of the images have less", 1),
    "logit_95": Column("Logits, 95 %", "of the images have less", 1),
    "zero": Column("Zero gradients", "of cross-entropy, of images", unit="%"),
    "gradient": Column("Gradient", "median of log10 of its largest entry; -46 stands for zero", 1),
    "own": Column("Own net", "misclassified by the confidence", unit="%"),
    "size": Column("Size", "mean L2", 2),
}
"""The columns of the measurements here."""


def _iterated(norm: AbstractNorm, eps: float) -> attacks.Attack:
    """FGS in 20 steps of a tenth of the radius."""
    return attacks.pgd(norm, eps, steps=20, step_size=eps / 10, random_start=False)


METHODS: Mapping[str, Callable[..., AbstractAttack]] = {
    "C&W L0": attacks.cw_l0,
    "C&W L2": attacks.cw_l2,
    "C&W Linf": attacks.cw_linf,
    "JSMA-Z": partial(attacks.jsma, variant="Z", share=1.0),
    "JSMA-F": partial(attacks.jsma, variant="F", share=1.0),
    "DeepFool": partial(attacks.deepfool, L2()),
    "FGS": partial(attacks.smallest_budget, Linf()),
    "iterated": partial(attacks.smallest_budget, Linf(), attack=_iterated),
    "FMN L0": partial(attacks.fmn, L0()),
    "FMN L2": partial(attacks.fmn, L2()),
    "FMN Linf": partial(attacks.fmn, Linf()),
    "DDN": attacks.ddn,
    "ALMA": attacks.alma,
}
"""The attacks of the tables, by name; options are those of their functions."""


@dataclass(frozen=True)
class Method:
    """An attack by its name in `METHODS`, with options."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def attack(self) -> AbstractAttack:
        """The attack itself."""
        return METHODS[self.name](**dict(self.options))


@dataclass(frozen=True)
class Distances(Measurement):
    """How far an attack has to go to each wrong class, on test images that the net has right.

    DeepFool has no targets: its distance is the best case alone.
    """

    VERSION: ClassVar[int] = 5

    net: Trained
    method: Method
    count: int

    @property
    def label(self) -> str:
        return f"{self.method.name} on {self.net.role} · seed {self.net.data.seed}"

    @property
    def cost(self) -> float:
        return 1e5 * self.count

    def measure(self, work: Work) -> Columns:
        net, seed, attack = work.load(self.net), self.net.data.seed, self.method.attack()
        x, y = right(self.net, net, work, self.count)
        if self.method.name == "DeepFool":
            result = attack(net, x, y, seed=seed, fast=False)
            return {
                "best": _mean(result.distance[result.success]),
                "best_success": percent(result.success),
                "gradients": result.backwards / len(x),
            }
        found = best_average_worst(attack, net, x, y, seed=seed, fast=False)
        columns: dict[str, float | None] = {}
        names = ("best", "average", "worst")
        for name, success in zip(names, found.attack_success_rate, strict=True):
            distance = getattr(found, name)
            columns[name] = _mean(distance[distance.isfinite()])
            columns[f"{name}_success"] = success
        gradients = found.backwards / len(x) / (net.classes - 1)
        return {**columns, "gradients": gradients}


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


@dataclass(frozen=True)
class AtTemperatures(Measurement):
    """A net by the temperature that it was trained at: errors, attacks, and why one fails.

    - `method`: beside JSMA-F, the attack by which distillation was thought to protect
    """

    VERSION: ClassVar[int] = 5

    net: Trained
    method: Method
    count: int

    @property
    def cost(self) -> float:
        return 2e5 * self.count

    def measure(self, work: Work) -> Columns:
        net, seed = work.load(self.net), self.net.data.seed
        x, y = right(self.net, net, work, self.count)
        targets = (y + random_shift(self.net, len(x), net.classes).to(y.device)) % net.classes
        earlier, ours = (
            attack(net, x, y, targets=targets, seed=seed, fast=False)
            for attack in (METHODS["JSMA-F"](), self.method.attack())
        )
        more, labels = attacked((self.net,), work, 1000)
        z = logits_of(net, more)
        lead = (z.amax(dim=1) - z.mean(dim=1)).double()
        size = slopes(net, more, labels).flatten(1).abs().amax(dim=1).double()
        return {
            "error": 100 - accuracy(net, self.net.data.splits(work).test),
            "earlier": percent(earlier.success),
            "reached": percent(ours.success),
            "distance": _mean(ours.distance[ours.success]),
            "logit": float(lead.mean()),
            "logit_5": float(lead.quantile(0.05)),
            "logit_95": float(lead.quantile(0.95)),
            "zero": percent(size == 0),
            "gradient": float(size.clamp(min=1e-46).log10().median()),
        }


def random_shift(net: Trained, n: int, classes: int) -> Tensor:
    """For each of n images a number of 1..classes-1, by which its label is moved to its target."""
    keys = random.row_keys(n, net.data.seed, "targets")
    return 1 + random.integers(keys, classes - 1)


@dataclass(frozen=True)
class Confident(Measurement):
    """Errors of other nets, by name, on examples that fool one by a margin of `confidence` logits.

    Beside them the same under Gaussian noise of the same sizes, "NAME, noise".
    """

    VERSION: ClassVar[int] = 5

    net: Trained
    others: tuple[tuple[str, Trained], ...]
    confidence: float
    method: Method
    count: int

    @property
    def cost(self) -> float:
        return 1e5 * self.count

    def measure(self, work: Work) -> Columns:
        net, seed = work.load(self.net), self.net.data.seed
        x, y = right(self.net, net, work, self.count)
        options = (*self.method.options, ("confidence", self.confidence))
        result = Method(self.method.name, options).attack()(net, x, y, seed=seed, fast=False)
        found = result.success
        if not bool(found.any()):
            return {"own": 0.0}
        x, y, x_adv = x[found], y[found], result.x_adv[found]
        noise = noise_like(x, (x_adv - x).flatten(1).square().mean(dim=1).sqrt(), seed)
        columns: dict[str, float | None] = {
            "own": percent(found),
            "size": float(result.distance[found].mean()),
        }
        for name, other in self.others:
            judge = work.load(other)
            columns[name] = percent(predicted(logits_of(judge, x_adv)) != y)
            columns[f"{name}, noise"] = percent(predicted(logits_of(judge, noise)) != y)
        return columns


@dataclass(frozen=True)
class Grid(Illustration):
    """One image of each class, moved to each class; unmoved where it stands already.

    - `methods`: by the name of their grid; row i are the images that began as class i
    """

    VERSION: ClassVar[int] = 5

    net: Trained
    methods: tuple[tuple[str, Method], ...]

    @property
    def cost(self) -> float:
        return 1e6

    def draw(self, work: Work) -> Pictures:
        net, seed = work.load(self.net), self.net.data.seed
        x, y = _one_of_each(self.net, work)
        k = net.classes
        sheets: dict[str, Tensor] = {}
        for name, method in self.methods:
            moved = x[:, None].repeat(1, k, 1, 1, 1)
            start, target = (~torch.eye(k, dtype=torch.bool, device=x.device)).nonzero().T
            result = method.attack()(net, x[start], y[start], targets=target, seed=seed, fast=False)
            reached = result.success[:, None, None, None]
            moved[start, target] = torch.where(reached, result.x_adv, 0.0)
            sheets |= {f"{name}.{i}": moved[i] for i in range(k)}
        return sheets


def _one_of_each(stage: Trained, work: Work) -> tuple[Images, Labels]:
    """The first test image of each class that the net has right, or the first of the class."""
    net = work.load(stage)
    x, y = attacked((stage,), work, 1000)
    known = predicted(logits_of(net, x)) == y
    rows: list[int] = []
    for label in range(net.classes):
        mine = (y == label).nonzero()[:, 0]
        if not len(mine):
            raise DataError(f"No test image is of class {label}. Use more test images.")
        first = mine[known[mine]] if bool(known[mine].any()) else mine
        rows.append(int(first[0]))
    return x[rows], y[rows]
