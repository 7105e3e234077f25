"""Stages about how linear nets are: along lines, against the dimension, and logistic regression."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.types import Images, Labels, Rows
from notbugs.experiments.experiment import Illustration, Measurement, Measurements, Pictures, Work
from notbugs.experiments.first_order import (
    attacked,
    logits_of,
    right,
    signs,
    slopes,
    slopes_of_odds,
    step,
    wrong_and_sure,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.decision import margin

BELOW = 1 / 512
"""A change below the precision of pixels of 8 bits."""
REACH, POINTS = 10.0, 401
"""Lines go from -REACH to REACH times the direction, in so many points."""
COLUMNS = {
    "gain": Column("Gain", "of a step of 1/512 along the signs, of the mean margin", 3, "%"),
    "gain_random": Column("Gain, random", "the same along random signs", 3, "%"),
    "gain_power": Column("Power", "of the dimension with which the gain grows", 2),
    "gain_random_power": Column("Power, random", "the same along random signs", 2),
    "pieces": Column("Pieces", "linear pieces of a logit", 1),
    "linearity": Column("Linearity", "share of a logit's variance on two lines", 3),
    "linearity_random": Column("Linearity, random", "the same along random signs", 3),
    "held": Column("Held", "images of one wrong class from eps to 10", unit="%"),
    "held_random": Column("Held, random", "the same along random signs", unit="%"),
    "range": Column("Range", "of t, the widest of one wrong class", 2),
    "range_random": Column("Range, random", "the same along random signs", 2),
    "l1": Column("L1", "sum of the weights of the log-odds, per pixel", 1),
    "pull": Column("Pull", "of the penalty inside the loss", unit="%"),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Line(Measurements):
    """The logits along x + t * sign(gradient), t from -10 to 10, not clipped.

    Means over test images that the net has right. "pieces": linear pieces of a logit, found as
    runs of at least two equal differences. "linearity": the share of a logit's variance that two
    straight lines explain, one on each side. "held": images for which one wrong class is named at
    every t >= eps; "range": the widest range of t > 0 over which one wrong class is named. Beside
    them the same along random signs.
    """

    VERSION: ClassVar[int] = 2

    name: str
    net: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Tables:
        net = work.load(self.net)
        x, y = right(self.net, net, work, self.count)
        t, z = along(net, x, slopes(net, x, y).sign())
        _, random_z = along(net, x, signs(x, self.net.data.seed, "line"))
        held, reach = _held(t, z, y, self.eps)
        other_held, other_reach = _held(t, random_z, y, self.eps)
        columns = {
            "pieces": float(_pieces(z).mean()),
            "linearity": float(_linearity(t, z)),
            "linearity_random": float(_linearity(t, random_z)),
            "held": held,
            "held_random": other_held,
            "range": reach,
            "range_random": other_reach,
        }
        return {"line": {self.name: columns}}


def along(net: Classifier, x: Images, direction: Images) -> tuple[Tensor, Tensor]:
    """(t [p], the logits at x + t * direction [n, p, k])."""
    t = torch.linspace(-REACH, REACH, POINTS, device=x.device)
    rows = [
        logits_of(net, a + t[:, None, None, None] * b) for a, b in zip(x, direction, strict=True)
    ]
    return t, torch.stack(rows)


def _pieces(z: Tensor) -> Tensor:
    """The runs of at least two equal differences of each logit [n, p, k], [n, k]."""
    steps = z.double().diff(dim=1)
    largest = steps.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
    same = steps.diff(dim=1).abs() <= 1e-3 * largest
    begins = same.clone()
    begins[:, 1:] &= ~same[:, :-1]
    return begins.sum(dim=1).double()


def _linearity(t: Tensor, z: Tensor) -> Tensor:
    """1 - residual / variance of a line on each side of 0, the mean over logits, sides, images."""
    shares: list[Tensor] = []
    for side in (t >= 0, t <= 0):
        a, b = t[side].double(), z[:, side].double()
        a, b = a - a.mean(), b - b.mean(dim=1, keepdim=True)
        total = b.square().sum(dim=1).clamp(min=1e-12)
        shares.append((a[:, None] * b).sum(dim=1).square() / a.square().sum() / total)
    return torch.stack(shares).mean()


def _held(t: Tensor, z: Tensor, y: Labels, eps: float) -> tuple[float, float]:
    """(percent of images with one wrong class from eps on, the widest range of one wrong class)."""
    named = z[:, t > 0].argmax(dim=2)
    from_eps = named[:, t[t > 0] >= eps - 1e-6]
    one = (from_eps == from_eps[:, :1]).all(dim=1) & (from_eps[:, 0] != y)
    widest = [
        max(_runs(row.tolist(), int(label)), default=0) for row, label in zip(named, y, strict=True)
    ]
    spacing = float(t[1] - t[0])
    return percent(one), spacing * sum(widest) / len(widest)


def _runs(named: list[int], label: int) -> list[int]:
    """The lengths of the runs of one wrong class."""
    runs, before = list[int](), label
    for one in named:
        if one != label:
            if one == before:
                runs[-1] += 1
            else:
                runs.append(1)
        before = one
    return runs


@dataclass(frozen=True)
class LinePicture(Illustration):
    """The logits of one image along the line: those of its class, of the class that it is taken
    for, and of the others."""

    net: Trained

    def draw(self, work: Work) -> Pictures:
        net = work.load(self.net)
        x, y = right(self.net, net, work, 1)
        t, z = along(net, x, slopes(net, x, y).sign())
        taken = int(z[0, -1].argmax())
        others = [c for c in range(net.classes) if c not in (int(y[0]), taken)]
        lines = {"true": int(y[0]), "taken": taken}
        lines |= {f"other{i}": c for i, c in enumerate(others)}
        return {"line.t": t, **{f"line.{name}": z[0, :, c] for name, c in lines.items()}}


@dataclass(frozen=True)
class Gain(Measurement):
    """By how much a change below the pixels' precision moves the margin of a net.

    The mean over test images, in percent of the mean margin: of a step of `BELOW` along the
    gradient's sign, not clipped, and of random signs. And errors under FGSM of `eps`.
    """

    net: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net = work.load(self.net)
        x, y = attacked((self.net,), work, self.count)
        seed = self.net.data.seed
        adversarial, noise = slopes(net, x, y).sign(), signs(x, seed, "gain")
        columns = _gains(lambda moved: -margin(logits_of(net, moved), y), x, adversarial, noise)
        return {
            **columns,
            "test_error": wrong_and_sure(net, x, y)[0],
            "fgsm": wrong_and_sure(net, step(net, x, y, self.eps, seed), y)[0],
        }


def _gains(
    lead: Callable[[Tensor], Rows], x: Tensor, adversarial: Tensor, noise: Tensor
) -> dict[str, float | None]:
    before = lead(x)
    scale = 100 / float(before.abs().mean())
    return {
        "gain": scale * float((before - lead(x + BELOW * adversarial)).mean()),
        "gain_random": scale * float((before - lead(x + BELOW * noise)).abs().mean()),
    }


@dataclass(frozen=True)
class GaussianGain(Measurement):
    """The same of the best classifier of two Gaussian classes in n dimensions.

    x ~ N(1/2 +- s d / (2 sqrt n) u, s^2) with signs u, so that the classes are as far apart (d
    deviations, an error of 2.3 %) in every dimension; s is 0.1.

    - `n`: dimensions
    """

    n: int
    seed: int
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        apart, s = 4.0, 0.1
        key = random.row_keys(1, self.seed, "pattern", self.n)
        u = (2 * random.uniform(key, (self.n,))[0] - 1).sign()
        keys = random.row_keys(self.count, self.seed, "gaussian", self.n)
        y = torch.arange(self.count) % 2 * 2 - 1
        x = 0.5 + s * random.normal(keys, (self.n,))
        x = x + s * apart / (2 * math.sqrt(self.n)) * y[:, None] * u

        def lead(moved: Tensor) -> Rows:
            return y * ((moved - 0.5) @ u)

        adversarial = -y[:, None] * u
        noise = signs(x[:, None, None], self.seed, "gain")[:, 0, 0]
        return {
            **_gains(lead, x, adversarial, noise),
            "test_error": percent(lead(x) <= 0),
            "fgsm": percent(lead(x + self.eps * adversarial) <= 0),
        }


@dataclass(frozen=True)
class Growth(Measurement):
    """The powers of the dimension with which gains grow: slopes of their logarithms.

    - `gains`: with the dimension of each
    """

    gains: tuple[tuple[int, Gain | GaussianGain], ...]

    def measure(self, work: Work) -> Columns:
        columns = [work.load(gain) for _, gain in self.gains]
        n = torch.tensor([float(n) for n, _ in self.gains]).double().log()
        found: dict[str, float | None] = {}
        for name in ("gain", "gain_random"):
            g = torch.tensor([c[name] or 0.0 for c in columns]).double().clamp(min=1e-12).log()
            centred = n - n.mean()
            found[f"{name}_power"] = float((centred * g).sum() / centred.square().sum())
        return found


@dataclass(frozen=True)
class Logistic(Measurement):
    """A linear net of two classes: errors, and what pulls at its weights.

    "l1" is the sum of the |weights| per pixel of the log-odds; "pull" the mean derivative, in
    percent, of the worst-case loss with respect to eps * l1 (Goodfellow et al., section 5): the
    penalty acts that much, where that of L1 decay acts fully.

    - `trained_eps`: of the worst case that it was trained on; 0: none
    """

    net: Trained
    trained_eps: float
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net, data = work.load(self.net), self.net.data
        x, y = attacked((self.net,), work, self.count)
        train = data.train(work)
        w = slopes_of_odds(net, x)
        z = logits_of(net, train.pixels().to(work.device))
        lead = (2.0 * train.labels.to(z.device) - 1) * (z[:, 1] - z[:, 0])
        l1 = float(w.abs().sum())
        return {
            "train_error": percent(lead <= 0),
            "test_error": 100 - accuracy(net, data.splits(work).test),
            "fgsm": wrong_and_sure(net, step(net, x, y, self.eps, data.seed), y)[0],
            "l1": l1,
            "pull": 100 * float(torch.sigmoid(self.trained_eps * l1 - lead).mean()),
        }
