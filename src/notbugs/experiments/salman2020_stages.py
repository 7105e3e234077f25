"""Stages of transfer learning: nets moved to another set, by fixed features or by fine-tuning."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.schema import read_json_file
from notbugs.core.types import Labels
from notbugs.data import ImageData
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.experiments.experiment import DAMAGED, Measurement, Stage, Work
from notbugs.experiments.model_training import new_model
from notbugs.experiments.numbers import Columns, mean
from notbugs.experiments.readouts import embedded, linear_readout
from notbugs.experiments.shared import Data, Trained
from notbugs.judge import accuracy, evaluate
from notbugs.judge.standard import evaluation_pgd
from notbugs.models import Classifier, build, save
from notbugs.models.layers import Body
from notbugs.models.weights import MODEL
from notbugs.training import Recipe, train

CHOSEN = "radius.json"
SHOTS = ("shots_0", "shots_1", "shots_2")
"""Columns of accuracies by the number of target images."""


@dataclass(frozen=True)
class Target:
    """What nets are transferred to.

    - `data`: its split; `shots`: numbers of training images of each class, rising
    """

    data: Data
    shots: tuple[int, ...]

    def few(self, work: Work) -> Iterator[ImageData]:
        """For each number of images, the first training images of every class."""
        train = self.data.train(work)
        place = place_in_class(train.labels)
        return (train.select(place < count) for count in self.shots)

    def held_out(self, work: Work) -> ImageData:
        """Training images that no transfer learns from, and the validation images."""
        train, val = self.data.train(work), self.data.splits(work).val
        rest = train.select(place_in_class(train.labels) >= self.shots[-1])
        images, labels = (
            torch.cat([getattr(part, name) for part in (rest, val)])
            for name in ("images", "labels")
        )
        return replace(rest, images=images, labels=labels)


def place_in_class(labels: Labels) -> Tensor:
    """How many images of the same class stand before each image, [n]."""
    order, counts = labels.argsort(stable=True), torch.bincount(labels)
    first = (counts.cumsum(0) - counts)[labels[order]]
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels)) - first
    return place


@dataclass(frozen=True)
class Transferred(Measurement):
    """Test accuracies on a target, in percent, by the number of its images that were learnt from.

    "mean" is over these numbers, "held" the same on held-out training images of the target.

    - `source`: the pretrained net; `trained`: False takes it as it was before, a control
    """

    source: Trained
    target: Target
    trained: bool = True

    @abstractmethod
    def pair(self, few: ImageData, held: ImageData, test: ImageData, work: Work) -> Tensor:
        """Accuracies on held-out and on test images of what learnt from few images, [2]."""

    def start(self, work: Work) -> Classifier:
        """The net whose features are transferred."""
        return work.load(self.source) if self.trained else self.source.untrained(work)

    def measure(self, work: Work) -> Columns:
        held, test = self.target.held_out(work), self.target.data.splits(work).test
        pairs = [self.pair(few, held, test, work) for few in self.target.few(work)]
        on_held, on_test = torch.stack(pairs).double().unbind(dim=1)
        row = {name: float(v) for name, v in zip(SHOTS, on_test, strict=True)}
        return {**row, "mean": float(on_test.mean()), "held": float(on_held.mean())}


@dataclass(frozen=True)
class Fixed(Transferred):
    """Transfer by fixed features: a logistic regression of the embedding, the net as it is.

    - `pixels`: a regression of the pixels in place of the embedding, a control
    """

    pixels: bool = False

    @property
    def label(self) -> str:
        return f"fixed features · seed {self.target.data.seed}"

    def pair(self, few: ImageData, held: ImageData, test: ImageData, work: Work) -> Tensor:
        model = self.start(work)

        def codes(data: ImageData) -> Tensor:
            return data.pixels().flatten(1) if self.pixels else embedded(model, data)

        head = linear_readout(codes(few), few.labels, few.classes)
        with torch.no_grad():
            right = [
                (head(codes(part).double()).argmax(dim=1) == part.labels).double().mean()
                for part in (held, test)
            ]
        return 100 * torch.stack(right)


@dataclass(frozen=True)
class Tuned(Transferred):
    """Transfer by fine-tuning of all weights, with a new last layer.

    Each number of images gets as many steps as the largest.

    - `recipe`: of the training; `rates`: its learning rates, of which the best on held-out training
      images of the target is taken
    - `scratch`: the net has new weights, and statistics of the target's: a control
    """

    recipe: Recipe = Recipe()  # noqa: RUF009 (frozen)
    rates: tuple[float, ...] = (0.05,)
    scratch: bool = False

    @property
    def label(self) -> str:
        return f"fine-tune · seed {self.target.data.seed}"

    @property
    def cost(self) -> float:
        images = 10 * self.target.shots[-1] * len(self.target.shots)
        return 3.0 * self.recipe.epochs * images * len(self.rates)

    def pair(self, few: ImageData, held: ImageData, test: ImageData, work: Work) -> Tensor:
        seed = random.seed_of(self.target.data.seed, "tuned")
        most, batch = self.target.shots[-1] * few.classes, min(self.recipe.batch_size, len(few))
        steps = self.recipe.epochs * math.ceil(most / self.recipe.batch_size)
        epochs = math.ceil(steps / math.ceil(len(few) / batch))
        pairs: list[Tensor] = []
        for rate in self.rates:
            model = self.fresh(few, seed, work)
            recipe = replace(self.recipe, epochs=epochs, batch_size=batch, lr=rate)
            train(model, few, recipe, seed=seed)
            pairs.append(torch.tensor([accuracy(model, part) for part in (held, test)]))
        return max(pairs, key=lambda pair: float(pair[0]))  # the first of those that are equal

    def fresh(self, few: ImageData, seed: int, work: Work) -> Classifier:
        """The net before it is tuned."""
        if self.scratch:
            return new_model(self.source.net, few, seed).to(work.device)
        return with_new_head(self.start(work), few.classes, seed)


def with_new_head(model: Classifier, classes: int, seed: int) -> Classifier:
    """A copy of a built-in net with another last layer, which a seed initialises."""
    assert model.architecture is not None
    options = model.options
    fresh = build(
        model.architecture, shape=model.shape, classes=classes, seed=seed, options=options
    )
    assert isinstance(fresh.body, Body)
    assert isinstance(model.body, Body)
    fresh.body.trunk.load_state_dict(model.body.trunk.state_dict())
    for name in ("mean", "std"):
        getattr(fresh, name).copy_(getattr(model, name))
    return fresh.to(model.device)


@dataclass(frozen=True)
class Gain(Measurement):
    """By how many points one transfer exceeds another, by the number of images, and on average."""

    of: Transferred
    over: Transferred

    def measure(self, work: Work) -> Columns:
        return gain(work.load(self.of), work.load(self.over))


def gain(of: Columns, over: Columns) -> Columns:
    """The differences of two rows of accuracies."""
    return {
        name.replace("shots", "gain").replace("mean", "gain"): (of[name] or 0.0)
        - (over[name] or 0.0)
        for name in (*SHOTS, "mean")
    }


Ladder = tuple[tuple[float, Transferred], ...]
"""Transfers by the radius of pretraining, the first without an adversary."""


@dataclass(frozen=True)
class Best(Measurement):
    """The best robust radius by held-out images of the seed, and its gain over none on test images.

    - `ladder`: transfers by radius
    """

    ladder: Ladder

    def measure(self, work: Work) -> Columns:
        (_, standard), *robust = ((eps, work.load(stage)) for eps, stage in self.ladder)
        eps, best = max(robust, key=lambda pair: pair[1]["held"] or 0.0)
        return {"radius": eps, **gain(best, standard)}


@dataclass(frozen=True)
class BestRadius(Stage[float]):
    """The robust radius that transfers best to held-out training images, on average over seeds.

    - `ladders`: transfers by radius, of each seed
    """

    ladders: tuple[Ladder, ...]

    def make(self, work: Work) -> None:
        rungs = [
            (rung[0][0], mean([work.load(stage)["held"] or 0.0 for _, stage in rung]))
            for rung in zip(*(ladder[1:] for ladder in self.ladders), strict=True)
        ]
        write_json(work.folder / CHOSEN, max(rungs, key=lambda rung: rung[1])[0])

    def load(self, folder: Path, work: Work) -> float:
        return read_json_file(float, folder / CHOSEN, remedy=DAMAGED)


@dataclass(frozen=True)
class OnSource(Measurement):
    """Accuracies of a net on test images of its own set, clean and under PGD, in percent."""

    model: Trained
    threat: str

    def measure(self, work: Work) -> Columns:
        threat, data = Threat.parse(self.threat), self.model.data
        verdict = evaluate(
            work.load(self.model),
            data.splits(work).test,
            threat,
            attacks=[evaluation_pgd(threat)],
            seed=random.seed_of(data.seed, "source"),
            fast=False,
        )
        return {"source": verdict.clean_accuracy, "withstood": verdict.robust_accuracy}


@dataclass(frozen=True)
class AsAccurate(Trained):
    """A net as it was after the epoch whose held-out accuracy is nearest to another net's.

    - `like`: the other net
    """

    like: Trained | None = None

    def make(self, work: Work) -> None:
        assert self.like is not None
        data, val = self.data.train(work), self.data.splits(work).val
        wanted, model = accuracy(work.load(self.like), val), self.untrained(work)
        best: tuple[float, dict[str, Tensor]] = (math.inf, {})

        def keep(history: list[dict[str, float]]) -> None:
            nonlocal best
            apart = abs(history[-1]["val_clean"] - wanted)
            if apart < best[0]:
                best = apart, {k: v.clone() for k, v in model.state_dict().items()}

        seed = random.seed_of(self.data.seed, self.role)
        recipe = replace(self.recipe, watch_every=1)
        train(model, data, recipe, seed=seed, val=val, on_epoch=keep, progress=work.progress)
        model.load_state_dict(best[1])
        save(model, work.folder / MODEL, metadata={"role": self.role, "held_out": wanted})
