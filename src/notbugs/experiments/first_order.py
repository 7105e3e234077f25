"""Stages about what one step along the gradient does: errors, transfer, agreement, rubbish.

All steps are in Linf and `eps` is in pixel units of [0, 1].
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.attacks import AbstractAttack, fgsm, pgd
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.core.types import Images, Labels, Logits
from notbugs.engine import Linf
from notbugs.experiments.data_views import TwoClasses
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Work,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models import Classifier, ensemble, frozen
from notbugs.models import load as load_model
from notbugs.models.decision import predicted
from notbugs.models.weights import MODEL

CHUNK = 250
"""Images whose logits are computed at once."""
POOL = 200
"""Further images that are looked at for those that are right."""
CLAIMED = 0.5
"""A class whose probability is above this is claimed to be seen."""
COLUMNS = {
    "train_error": Column("Training error", "of the training images", unit="%"),
    "test_error": Column("Test error", "of the test images", 2, unit="%"),
    "confidence": Column("Confidence", "mean largest probability on test images", unit="%"),
    "fgsm": Column("FGSM", "error after one step along the gradient's sign", unit="%"),
    "fgsm_confidence": Column("Confidence, FGSM", "in those mistakes", unit="%"),
    "fall": Column("Fall", "of the confidence, from all images to FGSM's mistakes", unit="points"),
    "signs": Column("Signs", "error under random signs of the same size", unit="%"),
    "signs_confidence": Column("Confidence, signs", "in those mistakes", unit="%"),
    "uniform": Column("Uniform", "error under uniform noise within the same bound", unit="%"),
    "uniform_confidence": Column("Confidence, uniform", "in those mistakes", unit="%"),
    "pgd": Column("PGD-20", "error under PGD of 20 steps", unit="%"),
    "fgsm_left": Column("FGSM left", "error under FGSM, of the plain net's", unit="%"),
    "val_error": Column("Held out", "error on clean images", 2, "%"),
    "val_fgsm": Column("Held out, FGSM", "error under FGSM", 2, "%"),
    "val_error_rise": Column("Rise", "of the clean error", 2, "points"),
    "val_fgsm_rise": Column("Rise, FGSM", "of the adversarial error", 2, "points"),
    "other_wrong": Column("Other errs", "of the examples that the first has wrong", unit="%"),
    "agree": Column("Agree", "of those that both have wrong", unit="%"),
    "chance": Column("Chance", "agreement of independent mistakes", unit="%"),
    "ensemble_error": Column("Ensemble", "error of the ensemble", unit="%"),
    "rubbish": Column("Claims a class", "of noise images", unit="%"),
    "rubbish_confidence": Column("Confidence", "in those classes", unit="%"),
    "fooling": Column("Fooled", "into a given class by one step", unit="%"),
}
"""The columns of the measurements here."""
Nets = tuple[Trained, ...]
"""One net, or several that are averaged."""


def net_of(nets: Nets, work: Work) -> Classifier:
    """The net, or the ensemble."""
    loaded = [work.load(net) for net in nets]
    return loaded[0] if len(loaded) == 1 else ensemble(loaded)


def attacked(nets: Nets, work: Work, count: int) -> tuple[Images, Labels]:
    """The first `count` test images [n, c, h, w] and their labels [n]."""
    some = nets[0].data.splits(work).test.select(slice(0, count))
    return some.pixels().to(work.device), some.labels.to(work.device)


@cache
def _chunks(n: int) -> list[slice]:
    return [slice(i, i + CHUNK) for i in range(0, n, CHUNK)]


def logits_of(net: Classifier, x: Images) -> Logits:
    """The logits [n, k] of any number of images."""
    with frozen(net), torch.no_grad():
        return torch.cat([net.logits(x[rows]) for rows in _chunks(len(x))])


def named_by(net: Classifier, x: Images) -> Labels:
    """The classes [n] that a net predicts for any number of images, where these are."""
    return predicted(logits_of(net, x.to(net.device))).to(x.device)


def step(net: Classifier, x: Images, y: Labels, eps: float, seed: int) -> Images:
    """The images after one step of FGSM."""
    return moved_by(fgsm(Linf(), eps), net, x, y, seed)


def moved_by(attack: AbstractAttack, net: Classifier, x: Images, y: Labels, seed: int) -> Images:
    """The images after an attack; what an image draws does not hang on the others."""
    keys = random.row_keys(len(x), seed, "attack")
    parts = [attack(net, x[i], y[i], keys=keys[i], fast=False).x_adv for i in _chunks(len(x))]
    return torch.cat(parts)


def slopes(net: Classifier, x: Images, y: Labels) -> Images:
    """The gradients of cross-entropy, also outside [0, 1], where `input_gradients` refuses."""
    parts: list[Tensor] = []
    for rows in _chunks(len(x)):
        with frozen(net), torch.enable_grad():
            some = x[rows].clone().requires_grad_()
            loss = F.cross_entropy(net.logits(some), y[rows], reduction="sum")
            parts += torch.autograd.grad(loss, some)
    return torch.cat(parts)


def slopes_of_odds(net: Classifier, x: Images) -> Tensor:
    """The gradient of the second logit less the first at an image, [c, h, w]."""
    with frozen(net), torch.enable_grad():
        some = x[:1].clone().requires_grad_()
        z = net.logits(some)
        (grad,) = torch.autograd.grad((z[:, 1] - z[:, 0]).sum(), some)
    return grad[0]


def signs(x: Images, seed: int, *purpose: object) -> Images:
    """Random signs, one an entry."""
    keys = random.row_keys(len(x), seed, *purpose, device=x.device)
    return (2 * random.uniform(keys, x.shape[1:]).to(x) - 1).sign()


def wrong_and_sure(net: Classifier, x: Images, y: Labels) -> tuple[float, float | None]:
    """Percent of images that are wrong, and the mean probability of what they are taken for."""
    z = logits_of(net, x)
    wrong = predicted(z) != y
    sure = 100 * float(z.softmax(dim=1).amax(dim=1)[wrong].mean()) if bool(wrong.any()) else None
    return percent(wrong), sure


def right(stage: Trained, net: Classifier, work: Work, count: int) -> tuple[Images, Labels]:
    """The first `count` test images that the net has right, and their labels.

    **Raises** DataError where it has none right.
    """
    x, y = attacked((stage,), work, POOL + 2 * count)
    known = predicted(logits_of(net, x)) == y
    if not bool(known.any()):
        seed = stage.data.seed
        raise DataError(f"{stage.role} (seed {seed}) has none of {len(x)} test images right.")
    return x[known][:count], y[known][:count]


@dataclass(frozen=True)
class Errors(Measurement):
    """Errors in percent on test images, as they are and changed, and how sure the net is of them.

    - `nets`: several are averaged; `eps`: of FGSM, PGD and the noise
    - `count`: test images that are changed, the first
    """

    VERSION: ClassVar[int] = 2

    nets: Nets
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net, first = net_of(self.nets, work), self.nets[0]
        x, y = attacked(self.nets, work, self.count)
        seed, columns = first.data.seed, dict[str, float | None]()
        keys = random.row_keys(len(x), seed, "uniform", device=x.device)
        noise = 2 * random.uniform(keys, x.shape[1:]).to(x) - 1
        changed = {
            "fgsm": step(net, x, y, self.eps, seed),
            "signs": (x + self.eps * signs(x, seed, "signs")).clamp(0, 1),
            "uniform": (x + self.eps * noise).clamp(0, 1),
        }
        for name, moved in changed.items():
            columns[name], columns[f"{name}_confidence"] = wrong_and_sure(net, moved, y)
        stronger = moved_by(pgd(Linf(), self.eps, steps=20), net, x, y, seed)
        columns["pgd"], _ = wrong_and_sure(net, stronger, y)
        sure = 100 * float(logits_of(net, x).softmax(dim=1).amax(dim=1).mean())
        mistaken = columns["fgsm_confidence"]
        return {
            "train_error": 100 - accuracy(net, first.data.train(work)),
            "test_error": 100 - accuracy(net, first.data.splits(work).test),
            "confidence": sure,
            **columns,
            "fall": None if mistaken is None else sure - mistaken,
        }


@dataclass(frozen=True)
class Ratio(Measurement):
    """A column of one measurement in percent of that of another."""

    of: Errors
    to: Errors
    column: str

    def measure(self, work: Work) -> Columns:
        part, whole = (work.load(one)[self.column] for one in (self.of, self.to))
        return {f"{self.column}_left": 100 * part / whole if part is not None and whole else None}


@dataclass(frozen=True)
class Crossed(Measurement):
    """Errors of nets, by name, on the FGSM examples of others; None of them is left out."""

    attacked: Nets
    judges: tuple[tuple[str, Nets], ...]
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        x, y = attacked(self.attacked, work, self.count)
        seed = self.attacked[0].data.seed
        x_adv = step(net_of(self.attacked, work), x, y, self.eps, seed)
        return {name: wrong_and_sure(net_of(n, work), x_adv, y)[0] for name, n in self.judges}


@dataclass(frozen=True)
class Agreement(Measurement):
    """Where two nets both misclassify the first's FGSM examples: do they name the same class?

    "chance" is how often they would if each drew its wrong classes by itself, as often as it names
    them for that true class.
    """

    VERSION: ClassVar[int] = 2

    attacked: Trained
    other: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net, other = work.load(self.attacked), work.load(self.other)
        x, y = attacked((self.attacked,), work, self.count)
        x_adv = step(net, x, y, self.eps, self.attacked.data.seed)
        named = [predicted(logits_of(model, x_adv)) for model in (net, other)]
        wrong = [labels != y for labels in named]
        both = wrong[0] & wrong[1] & (named[0] >= 0) & (named[1] >= 0)  # without ties
        a, b, true = named[0][both], named[1][both], y[both]
        columns: dict[str, float | None] = {
            "other_wrong": 100 * float(both.sum()) / max(1, int(wrong[0].sum())),
            "agree": None,
            "chance": None,
        }
        if len(a):
            columns["agree"] = percent(a == b)
            columns["chance"] = 100 * _by_chance(a, b, true, net.classes)
        return columns


def _by_chance(a: Labels, b: Labels, true: Labels, classes: int) -> float:
    """How often a and b [n] agree if each is shuffled among the rows of a true class."""
    agreed = 0.0
    for label in true.unique():
        rows = true == label
        shares = [named[rows].bincount(minlength=classes).double() for named in (a, b)]
        agreed += float((shares[0] * shares[1]).sum()) / int(rows.sum())
    return agreed / len(true)


@dataclass(frozen=True)
class Rubbish(Measurement):
    """What a net says of pixels drawn from N(0, 1), which are of no class.

    "rubbish": percent of which it claims a class (a probability above 1/2); "rubbish_confidence":
    how sure it is of those; "fooling": percent that one step of `eps` makes it claim a given class.
    """

    net: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net = work.load(self.net)
        x, targets = rubbish(self.net, net, work, self.count)
        sure = logits_of(net, x).softmax(dim=1).amax(dim=1)
        claimed = sure > CLAIMED
        moved = x - self.eps * slopes(net, x, targets).sign()
        aimed = logits_of(net, moved).softmax(dim=1).gather(1, targets[:, None])[:, 0]
        return {
            "rubbish": percent(claimed),
            "rubbish_confidence": 100 * float(sure[claimed].mean())
            if bool(claimed.any())
            else None,
            "fooling": percent(aimed > CLAIMED),
        }


def rubbish(stage: Trained, net: Classifier, work: Work, count: int) -> tuple[Images, Labels]:
    """Pixels from N(0, 1) in the format of the net's images, and a class for each."""
    keys = random.row_keys(count, stage.data.seed, "rubbish")
    x = random.normal(keys, net.shape).to(work.device)
    return x, (torch.arange(count) % net.classes).to(work.device)


@dataclass(frozen=True)
class Epochs(Measurements):
    """Held-out errors after each epoch of a training, and by how much they rose at its end."""

    name: str
    net: Trained

    def measure(self, work: Work) -> Tables:
        metadata = load_model(work.path(self.net) / MODEL)[1]
        history = cast("list[dict[str, float]]", metadata["history"])
        errors = [
            {"val_error": 100 - row["val_clean"], "val_fgsm": 100 - row["val_robust"]}
            for row in history
            if "val_robust" in row
        ]
        last = {
            f"{name}_rise": errors[-1][name] - min(e[name] for e in errors) for name in errors[0]
        }
        table = {f"{self.name} at {i + 1}": e for i, e in enumerate(errors)}
        return {"epochs": table, "overfitting": {self.name: last}}


@dataclass(frozen=True)
class StepPictures(Illustration):
    """Images, the change that FGSM makes, and the result; and the weights of a linear net."""

    VERSION: ClassVar[int] = 2

    net: Trained
    eps: float
    name: str
    count: int = 8

    def draw(self, work: Work) -> Pictures:
        net = work.load(self.net)
        x, y = right(self.net, net, work, self.count)
        x_adv = step(net, x, y, self.eps, self.net.data.seed)
        taken, data = predicted(logits_of(net, x_adv)), self.net.data
        if isinstance(data, TwoClasses):  # the page names the classes of the whole set
            pair = torch.tensor(data.pair, device=y.device)
            y, taken = pair[y], pair[taken.clamp(min=0)]
        sheets = {
            f"{self.name}.clean.images": x,
            f"{self.name}.clean.labels": y,
            f"{self.name}.difference": (0.5 + (x_adv - x) / (2 * self.eps)).clamp(0, 1),
            f"{self.name}.adversarial": x_adv,
            f"{self.name}.labels": taken,
            f"{self.name}.true_labels": y,
        }
        if self.net.net.architecture == "linear":
            w = slopes_of_odds(net, x)
            both = torch.stack([w / w.abs().amax(), w.sign()])
            sheets[f"weights.{self.name}"] = 0.5 + 0.5 * both
        return sheets


@dataclass(frozen=True)
class FoolingPictures(Illustration):
    """Noise that one step makes the net take for each of its first ten classes, cut to [0, 1]."""

    net: Trained
    eps: float

    def draw(self, work: Work) -> Pictures:
        net = work.load(self.net)
        x, targets = rubbish(self.net, net, work, min(10, net.classes))
        moved = x - self.eps * slopes(net, x, targets).sign()
        sheets = {"fooling.images": moved.clamp(0, 1), "fooling.true_labels": targets}
        return sheets | {"fooling.labels": predicted(logits_of(net, moved))}
