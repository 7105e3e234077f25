"""Stages that papers share: the split of a dataset, and trained models."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import DataError, DataWarning, bad_value
from notbugs.data import ImageData, Splits, load_source, split
from notbugs.data.sources.source import Source
from notbugs.data.writing import write_json
from notbugs.experiments.experiment import PaperConfig, Stage, Work
from notbugs.experiments.model_training import USER, Net, new_model, restarting, train_in
from notbugs.models import Classifier, load_into, prepare
from notbugs.models import load as load_model
from notbugs.models.imagenet import imagenet
from notbugs.models.weights import MODEL
from notbugs.training import (
    AtTemperature,
    Recipe,
    recipe_as_json,
    soft_labels,
    with_temperature,
)
from notbugs.training.autoencoder import pretrain

PHOTOGRAPHS = "photographs"
"""The set whose nets were trained elsewhere."""


def digest_of(source: Source) -> str:
    """The digests of the training part and of the official test and validation parts, if any."""
    parts = (source.train, source.test, source.val)
    return "".join(data.digest for data in parts if data is not None)


@lru_cache(maxsize=2)
def splits(
    name: str,
    digest: str,
    data_dir: str | None,
    seed: int,
    train_size: int | None,
    test_size: int | None,
) -> Splits:
    """The seed's split of a dataset, checked to be the data that the run was planned with.

    **Raises** DataError where the files have changed since.
    """
    with warnings.catch_warnings(action="ignore", category=DataWarning):  # the plan warned
        source = load_source(name, None if data_dir is None else Path(data_dir))
    if digest_of(source) != digest:
        raise DataError(f"The files of '{name}' changed during the run. Start it again.")
    return split(source, seed=seed, train_size=train_size, test_size=test_size)


@dataclass(frozen=True)
class Data:
    """The split of a dataset by a seed.

    - `start`: where the half of the training images begins, as a share of them, 0 to 1/2; None
      takes all
    - `drawn`: version of what `split` draws for a seed, so that no stored model is tested on images
      that it was trained on
    """

    name: str
    digest: str
    seed: int
    train_size: int | None = None
    test_size: int | None = None
    start: float | None = None
    drawn: int = 2

    @classmethod
    def of(cls, config: PaperConfig, seed: int, start: float | None = None) -> "Data":
        """That of a paper's settings."""
        sizes = config.train_size, config.test_size
        return cls(config.data, config.digest, seed, *sizes, start)

    def splits(self, work: Work) -> Splits:
        """All parts, with all training images."""
        sizes = self.train_size, self.test_size
        return splits(self.name, self.digest, work.data_dir, self.seed, *sizes)

    def train(self, work: Work) -> ImageData:
        """The training images, or the half of them."""
        data = self.splits(work).train
        if self.start is None:
            return data
        first = int(self.start * len(data))
        return data.select(slice(first, first + len(data) // 2))


@dataclass(frozen=True)
class Trained(Stage[Classifier]):
    """A net trained on the training images of a split, or on a set that was made of them.

    - `role`: of models of one seed, those of another role have other weights at the start
    - `on`: the set; None: the training images
    """

    data: Data
    net: Net
    recipe: Recipe
    role: str = "standard"
    on: Stage[ImageData] | None = None

    @property
    def label(self) -> str:
        what = (
            self.role
            if self.on is None
            else f"on {self.on.label.split(' · ')[0].removeprefix('build ')}"
        )
        return f"train {what} · seed {self.data.seed}"

    @property
    def cost(self) -> float:
        inner = 2.0 * self.recipe.adversary.passes if self.recipe.adversary else 0.0
        return (self.data.train_size or 1400) * self.recipe.epochs * (3 + inner)

    def make(self, work: Work) -> None:
        restarting(lambda restart: self._train(work, restart), work.notice)

    def untrained(self, work: Work) -> Classifier:
        """The net as it is before training."""
        data, seed = self.data.train(work), random.seed_of(self.data.seed, self.role)
        model = new_model(self.net, data, seed)
        if isinstance(self.recipe.objective, AtTemperature):
            with_temperature(model, self.recipe.objective.temperature)
        return prepare(model, work.device)

    def soft(self, work: Work) -> Tensor | None:
        """The probabilities [n, k] that it is trained on in place of labels; here none."""
        return None

    def _train(self, work: Work, restart: bool) -> None:
        data = self.data.train(work) if self.on is None else work.load(self.on)
        model, seed = self.untrained(work), random.seed_of(self.data.seed, self.role)
        if self.net.autoencoder:
            pretrain(model, data, epochs=self.net.autoencoder, seed=seed)
        train_in(
            work.folder,
            model,
            data,
            self.recipe,
            seed=seed,
            metadata={
                "dataset": self.data.name,
                "split": {
                    "seed": self.data.seed,
                    "train_size": self.data.train_size,
                    "test_size": self.data.test_size,
                },
                "trained_on": data.name,
                "training_set": dict(data.provenance),
                "class_names": list(data.class_names),
                "recipe": recipe_as_json(self.recipe),
                "role": self.role,
            },
            val=self.data.splits(work).val,
            soft=self.soft(work),
            progress=work.progress,
            restart=restart,
        )

    def load(self, folder: Path, work: Work) -> Classifier:
        if self.net.architecture == USER:
            model = self.untrained(work)
            load_into(model, folder / MODEL)
        else:
            model, _ = load_model(folder / MODEL)
        return prepare(model.eval(), work.device)


@dataclass(frozen=True)
class Distilled(Trained):
    """A net trained on the probabilities of a teacher, both at the recipe's temperature.

    - `recipe`: its objective is `AtTemperature`

    **Source**: Papernot et al. 2015 (arXiv 1511.04508), section III.
    """

    teacher: Trained | None = None

    def soft(self, work: Work) -> Tensor | None:
        teacher, objective = self.teacher, self.recipe.objective
        if teacher is None or not isinstance(objective, AtTemperature):
            raise bad_value("teacher", "be given, with the objective AtTemperature", teacher)
        return soft_labels(work.load(teacher), self.data.train(work), objective.temperature)


@dataclass(frozen=True)
class Pretrained(Trained):
    """A net of `notbugs.models.imagenet`, trained elsewhere; its recipe says nothing.

    - `side`: of the images, in pixels
    """

    side: int = 224

    @property
    def label(self) -> str:
        return f"load {self.net.architecture}"

    @property
    def cost(self) -> float:
        return 1e5

    def make(self, work: Work) -> None:
        self.load(work.folder, work)
        write_json(work.folder / "name.json", self.net.architecture)

    def load(self, folder: Path, work: Work) -> Classifier:
        return prepare(imagenet(self.net.architecture, side=self.side), work.device)


def usual(data: Data, net: Net, recipe: Recipe, role: str = "standard") -> Trained:
    """A net trained on the data; for photographs, one that was trained elsewhere."""
    kind = Pretrained if data.name == PHOTOGRAPHS else Trained
    return kind(data, net, recipe, role)
