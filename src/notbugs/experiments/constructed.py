"""Stages of constructed training sets: building them, measuring and showing what they carry."""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.attacks import Attack
from notbugs.core import random
from notbugs.data import ImageData, Planted, load, save
from notbugs.engine import Threat
from notbugs.engine.threat import exact
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Pictures,
    Stage,
    Work,
)
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Data, Trained
from notbugs.features import (
    InversionSettings,
    direction_control,
    inverted_set,
    leakage_control,
    noise_images,
    shuffled_labels,
    targeted_set,
    without_class_means,
)
from notbugs.judge import accuracy, evaluate, evaluation_pgd, predictions
from notbugs.models import Classifier
from notbugs.models.decision import predicted

DATASET = "data.safetensors"
STUDENTS = {
    "cnn": "CNN",
    "mlp": "MLP",
    "linear": "linear",
    "resnet18": "ResNet-18",
    "vgg16": "VGG-16",
}
"""Architectures of students beside the source's, as columns name them."""


def _accuracies() -> dict[str, Column]:
    """The columns of what students learn: one like the source, and others."""
    columns: dict[str, Column] = {}
    for end, words in {"": "", **{f"_{a}": f" {word}" for a, word in STUDENTS.items()}}.items():
        who = f" of the{words} student" if words else ""
        text = f"accuracy{who} on unchanged test images with their true labels"
        columns[f"clean{end}"] = Column(f"Clean{words and ','}{words}", text, unit="%")
        text = f"accuracy{who} if y + 1 counted as the right label"
        columns[f"shifted{end}"] = Column(f"Shifted{words and ','}{words}", text, unit="%")
    return columns


COLUMNS = _accuracies() | {
    "robust_half_eps": Column(
        "Robust ε/2", "accuracy under attack at half of ε; ≤: a masking check fires", unit="%"
    ),
    "robust_eps": Column(
        "Robust ε", "accuracy under attack at ε; ≤: a masking check fires", unit="%"
    ),
    "standard_half_eps": Column(
        "Standard ε/2", "accuracy under the standard evaluation at ε/2; ≤: as before", unit="%"
    ),
    "standard_eps": Column("Standard ε", "the same at ε", unit="%"),
    "chance": Column("Chance", "accuracy of guessing", unit="%"),
    "true_labels": Column("True labels", "training labels that are the true class", unit="%"),
    "source_success": Column(
        "Source fooled", "images that the source model does take for their new label", unit="%"
    ),
    "fitted": Column(
        "Source fitted", "of the shuffled labels that it was trained on, right", unit="%"
    ),
    "relative_error": Column(
        "Match error", "how far the representation stays from its target, relative", 3
    ),
    "distance": Column("Distance", "mean size of the change, in the norm of ε", 3),
    "from_original": Column(
        "From original", "mean L2 distance from the image it represents (near 0: a copy)", 3
    ),
    "zero_gradients": Column("Zero gradients", "of the attack at ε", unit="%"),
    "images": Column("Images", "in the set", 0),
    "dropped": Column("Dropped", "images that could not be changed by the full ε", 0),
    "planted_robust": Column(
        "Robust feature", "images whose robust feature points to the training label", unit="%"
    ),
    "planted_nonrobust": Column(
        "Non-robust feature",
        "images whose non-robust feature points to the training label",
        unit="%",
    ),
    "model_robust": Column(
        "Model: robust",
        "predictions that follow the robust feature where the two disagree",
        unit="%",
    ),
    "model_nonrobust": Column(
        "Model: non-robust",
        "predictions that follow the non-robust feature where they disagree",
        unit="%",
    ),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Constructed(Stage[ImageData]):
    """A training set that is made of the training images of a split."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The set's name, with the radius of its changes if it has one."""

    @property
    def original(self) -> Data:
        """The split that it is made of: that of its first field, a split, a model or a set."""
        first = getattr(self, fields(self)[0].name)
        if isinstance(first, Trained):
            return first.data
        return first.original if isinstance(first, Constructed) else first

    @property
    def label(self) -> str:
        return f"build {self.title} · seed {self.original.seed}"

    @abstractmethod
    def build(self, train: ImageData, work: Work) -> ImageData:
        """The set, from the training images."""

    def make(self, work: Work) -> None:
        save(self.build(self.original.train(work), work), work.folder / DATASET)

    def load(self, folder: Path, work: Work) -> ImageData:
        return load(folder / DATASET)


@dataclass(frozen=True)
class Inverted(Constructed):
    """D_R of a robust model or D_NR of a standard one: see `notbugs.features.inverted_set`."""

    source: Trained
    name: str
    inversion: InversionSettings
    batch_size: int
    precision: str = "float32"

    @property
    def title(self) -> str:
        return self.name

    @property
    def cost(self) -> float:
        return 3.0 * (self.original.train_size or 1400) * self.inversion.steps

    def build(self, train: ImageData, work: Work) -> ImageData:
        return inverted_set(
            work.load(self.source),
            train,
            name=self.name,
            seed=random.seed_of(self.original.seed, "inverted"),
            settings=self.inversion,
            batch_size=self.batch_size,
            precision=self.precision,
            progress=work.progress,
        )


@dataclass(frozen=True)
class Shuffled(Constructed):
    """The training images with their labels dealt out at random."""

    data: Data

    @property
    def title(self) -> str:
        return "shuffled labels"

    def build(self, train: ImageData, work: Work) -> ImageData:
        return shuffled_labels(train, seed=random.seed_of(self.data.seed, "shuffled"))


@dataclass(frozen=True)
class Pushes:
    """How images are pushed towards a class: see `notbugs.features.targeted_set`."""

    steps: int
    step_size: float | None
    batch_size: int
    precision: str = "float32"

    def pushed(
        self,
        model: Classifier,
        data: ImageData,
        kind: str,
        threat: Threat,
        seed: int,
        work: Work,
        *,
        at_chance: bool = False,
    ) -> ImageData:
        """The set of a kind of targets, which a seed draws."""
        return targeted_set(
            model,
            data,
            kind,
            threat,
            seed=random.seed_of(seed, "targets"),
            steps=self.steps,
            step_size=self.step_size,
            batch_size=self.batch_size,
            precision=self.precision,
            at_chance=at_chance,
            progress=work.progress,
        )


@dataclass(frozen=True)
class Targeted(Constructed):
    """D_rand, D_det or D_other of a source model, or the same from images of uniform noise.

    - `trained`: False takes the source as it is before training: a control
    """

    source: Trained
    target_kind: str
    threat: Threat
    pushes: Pushes
    noise: bool = False
    trained: bool = True

    @property
    def title(self) -> str:
        name = "D_noise" if self.noise else f"D_{self.target_kind}"
        control = "" if self.trained and self.source.on is None else " (control)"
        return f"{name}{control} ε={exact(self.threat.eps)}"

    @property
    def cost(self) -> float:
        return 3.0 * (self.original.train_size or 1400) * self.pushes.steps

    def build(self, train: ImageData, work: Work) -> ImageData:
        seed = self.original.seed
        model = work.load(self.source) if self.trained else self.source.untrained(work)
        data = noise_images(train, seed=random.seed_of(seed, "noise")) if self.noise else train
        usual = self.trained and self.source.on is None and not self.noise
        kind, threat = self.target_kind, self.threat
        made = self.pushes.pushed(model, data, kind, threat, seed, work, at_chance=not usual)
        if not self.noise:
            return made
        columns = {name: column for name, column in made.columns.items() if name != "true_labels"}
        return replace(made, name="D_noise", columns=columns)


@dataclass(frozen=True)
class Leakage(Constructed):
    """The leakage-only control of a targeted set: see `notbugs.features.leakage_control`."""

    VERSION: ClassVar[int] = 2

    data: Data
    target_kind: str
    threat: Threat

    @property
    def title(self) -> str:
        return f"leak:D_{self.target_kind} ε={exact(self.threat.eps)}"

    def build(self, train: ImageData, work: Work) -> ImageData:
        seed = random.seed_of(self.data.seed, "targets")
        return leakage_control(train, self.target_kind, self.threat, seed=seed)


@dataclass(frozen=True)
class Moved(Constructed):
    """A targeted set moved in other directions: see `notbugs.features.direction_control`."""

    source: Trained
    target_kind: str
    threat: Threat
    direction: str
    batch_size: int

    @property
    def title(self) -> str:
        return f"D_{self.target_kind}/{self.direction} ε={exact(self.threat.eps)}"

    @property
    def cost(self) -> float:
        passes = 60.0 if self.direction == "universal" else 1.0
        return 3.0 * (self.original.train_size or 1400) * passes

    def build(self, train: ImageData, work: Work) -> ImageData:
        return direction_control(
            work.load(self.source),
            train,
            self.target_kind,
            self.threat,
            self.direction,
            seed=random.seed_of(self.original.seed, "targets"),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class Projected(Constructed):
    """A targeted set without what changes share with class means: `without_class_means`."""

    on: Targeted

    @property
    def title(self) -> str:
        return self.on.title.replace(" ε", "/projected ε")

    def build(self, train: ImageData, work: Work) -> ImageData:
        return without_class_means(work.load(self.on), train, self.on.threat)


@dataclass(frozen=True)
class First(Constructed):
    """The first images of a set, whose order is random."""

    on: Constructed
    count: int

    @property
    def title(self) -> str:
        return f"{self.on.title}, {self.count} images"

    def build(self, train: ImageData, work: Work) -> ImageData:
        return work.load(self.on).select(slice(0, self.count))


@dataclass(frozen=True)
class Learnt(Measurement):
    """What students learn from a set: accuracies on the original test images, in percent.

    - `students`: the end of their columns' names, and the models, all of one training set, whose
      own numbers stand beside
    """

    students: tuple[tuple[str, Trained], ...]

    @property
    def label(self) -> str:
        return self.students[0][1].label.replace("train ", "test ", 1)

    def measure(self, work: Work) -> Columns:
        first = self.students[0][1]
        test = first.data.splits(work).test
        columns: dict[str, float | None] = {}
        for suffix, student in self.students:
            model = work.load(student)
            columns[f"clean{suffix}"] = accuracy(model, test)
            columns[f"shifted{suffix}"] = accuracy(model, test, (test.labels + 1) % test.classes)
        built = None if first.on is None else work.load(first.on)
        return {**columns, "chance": 100 / test.classes, **_of_set(built)}


@dataclass(frozen=True)
class Fitted(Measurement):
    """How many of the labels that it was trained on a model has right, in percent."""

    model: Trained

    def measure(self, work: Work) -> Columns:
        on = self.model.on
        data = self.model.data.train(work) if on is None else work.load(on)
        return {"fitted": accuracy(work.load(self.model), data)}


@dataclass(frozen=True)
class Evaluated(Measurement):
    """Clean and robust accuracy of a model on the original test set, in percent.

    Robust accuracy is under PGD of `steps` steps at the threat and at half its radius: an upper
    bound. Beside it, numbers of the set that the model was trained on.

    - `judged`: test images, the first, on which the standard evaluation is run as well; 0: none
    """

    model: Trained
    threat: Threat
    steps: int
    batch_size: int
    judged: int = 0

    @property
    def label(self) -> str:
        return self.model.label.replace("train ", "evaluate ", 1)

    @property
    def cost(self) -> float:
        return 6.0 * (self.model.data.test_size or 400) * self.steps + 1000.0 * self.judged

    def measure(self, work: Work) -> Columns:
        model, data, parts = work.load(self.model), self.model.data, self.model.data.splits(work)
        test, columns = parts.test, dict[str, float | None]()
        radii = {"half_eps": self.threat.scaled(0.5), "eps": self.threat}
        jobs: list[tuple[str, Threat, str | list[Attack], ImageData]] = [
            (f"robust_{at}", threat, [evaluation_pgd(threat, steps=self.steps)], test)
            for at, threat in radii.items()
        ]
        if self.judged:
            some = test.select(slice(0, self.judged))
            jobs += [(f"standard_{at}", threat, "standard", some) for at, threat in radii.items()]
        for i, (name, threat, attacks, images) in enumerate(jobs):
            verdict = evaluate(
                model,
                images,
                threat,
                attacks=attacks,
                seed=random.seed_of(data.seed, "measure"),
                batch_size=self.batch_size,
                fast=False,  # a folded copy depends on the processor; numbers must not
                progress=lambda done, i=i: work.progress((i + done) / len(jobs)),
            )
            columns[name] = verdict.robust_accuracy
            columns[f"{name}_upper_bound"] = float(verdict.is_upper_bound)
            if attacks != "standard":
                columns["zero_gradients"] = verdict.zero_gradients
        built = None if self.model.on is None else work.load(self.model.on)
        chance = {"chance": 100 / test.classes}
        return {"clean": accuracy(model, test), **columns, **chance, **_of_set(built)}


def _of_set(data: ImageData | None) -> dict[str, float | None]:
    """Numbers of a constructed set; original images (None) have true labels."""
    if data is None:
        return {"true_labels": 100.0}
    columns: dict[str, float | None] = {}
    if "true_labels" in data.columns:
        columns["true_labels"] = _share(data.labels, data.columns["true_labels"])
    if "success" in data.columns:
        columns["source_success"] = 100 * float(data.columns["success"].float().mean())
    for name in ("relative_error", "from_original", "distance"):
        if name in data.columns:
            columns[name] = float(data.columns[name].mean())
    dropped = float(str(data.provenance.get("dropped", 0)))
    return {**columns, "images": float(len(data)), "dropped": dropped}


@dataclass(frozen=True)
class AgainstTruth(Measurement):
    """Of planted data, how far a set and its model follow each of the two planted features.

    The set: percent of its images whose planted feature points to the label. The model: percent
    of its predictions that follow the feature, over the test images on which the two disagree.
    """

    model: Trained

    def measure(self, work: Work) -> Columns:
        truth, parts, on = Planted(), self.model.data.splits(work), self.model.on
        data = parts.train if on is None else work.load(on)
        robust, nonrobust = (
            parts.test.columns[f"{kind}_feature"] for kind in ("robust", "nonrobust")
        )
        conflicting = parts.test.select((robust != nonrobust).nonzero()[:, 0])
        labels = predictions(work.load(self.model), conflicting)
        return {
            "planted_robust": _share(truth.decode_robust(data.pixels()), data.labels),
            "planted_nonrobust": _share(truth.decode_nonrobust(data.pixels()), data.labels),
            "model_robust": _share(labels, conflicting.columns["robust_feature"]),
            "model_nonrobust": _share(labels, conflicting.columns["nonrobust_feature"]),
        }


def _share(a: Tensor, b: Tensor) -> float:
    return 100 * float((a == b).float().mean())


@dataclass(frozen=True)
class SetPictures(Illustration):
    """Pictures: random examples of each set with their labels, a column to a training image.

    Of targeted sets also the changes, magnified.
    """

    VERSION: ClassVar[int] = 3

    data: Data
    sets: tuple[tuple[str, Constructed], ...]
    count: int = 8

    def draw(self, work: Work) -> Pictures:
        train = self.data.train(work)
        order = torch.randperm(len(train), generator=random.generator(self.data.seed, "samples"))
        rows = order[: self.count]
        tensors = {"D.images": train.pixels(rows), "D.labels": train.labels[rows]}
        for name, stage in self.sets:
            data = work.load(stage)
            chosen = _rows_of(data, rows)
            if "distance" in data.columns and "true_labels" in data.columns:
                originals = train.pixels(data.columns["source_rows"][chosen])
                tensors[f"{name}.difference"] = _magnified(data.pixels(chosen) - originals)
            tensors[f"{name}.images"] = data.pixels(chosen)
            tensors[f"{name}.labels"] = data.labels[chosen]
            if "true_labels" in data.columns:
                tensors[f"{name}.true_labels"] = data.columns["true_labels"][chosen]
        return tensors


def _rows_of(data: ImageData, rows: Tensor) -> Tensor:
    """The rows of a constructed set made from training rows; dropped ones are replaced."""
    if "distance" not in data.columns:
        return rows
    places = {int(r): i for i, r in enumerate(data.columns["source_rows"])}
    return torch.tensor([places.get(int(r), int(r) % len(data)) for r in rows])


@dataclass(frozen=True)
class AttackPictures(Illustration):
    """Pictures: test images that the first model has right, attacked on each model by PGD.

    The labels are each model's prediction of the changed image; each change is magnified until its
    largest pixel is black or white.
    """

    VERSION: ClassVar[int] = 2

    models: tuple[tuple[str, Trained], ...]
    threat: Threat
    steps: int
    count: int = 8

    def draw(self, work: Work) -> Pictures:
        models = {name: work.load(model) for name, model in self.models}
        data, attack = self.models[0][1].data, evaluation_pgd(self.threat, steps=self.steps)
        some = data.splits(work).test.select(slice(0, 64))
        x, y = some.pixels().to(work.device), some.labels.to(work.device)
        right = _predicted(models[self.models[0][0]], x) == y
        x, y = (t[right][: self.count] for t in (x, y))
        tensors = {"attacked.images": x, "attacked.labels": y}
        for name, model in models.items():
            x_adv = attack(model, x, y, seed=data.seed, fast=False).x_adv if len(x) else x
            tensors[f"{name}.difference"] = _magnified(x_adv - x)
            tensors[f"{name}.adversarial"] = x_adv
            tensors[f"{name}.labels"] = _predicted(model, x_adv)
            tensors[f"{name}.true_labels"] = y
        return tensors


def _magnified(change: Tensor) -> Tensor:
    """Changes as images around grey, the largest pixel of each black or white."""
    return 0.5 + change / (2 * change.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9))


def _predicted(model: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return predicted(model.eval().logits(x))
