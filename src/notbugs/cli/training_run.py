"""One `notbugs train` command: trains the model, and for distillation first a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from notbugs.cli.common import open_model
from notbugs.cli.logs import Logs
from notbugs.cli.progress import bar
from notbugs.core import random
from notbugs.core.errors import DataError, bad_value
from notbugs.data import ImageData, Splits
from notbugs.experiments.config import Config
from notbugs.experiments.model_training import Net, new_model, train_in, user_net
from notbugs.models import Classifier, load_start, prepare, read_metadata
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.store.digests import Digests
from notbugs.training import (
    SHARE,
    AtTemperature,
    Recipe,
    Trained,
    recipe_as_json,
    recipe_from_json,
    with_temperature,
)
from notbugs.zoo.addresses import public_name, weights_at

DISTILLATION = "distillation"
TEACHER = "teacher"
"""The folder, inside the other, of the teacher that `distillation` trains first."""


@dataclass(frozen=True)
class ModelChoice:
    """The user's options that determine the weights, besides the recipe's settings.

    - `recipe`: its name; `size`: images to train on, validation included (None: all)
    - `architecture`: None means the dataset's default; `model`, `embedding`: a user's module
    - `distil`: the weights file of the teacher
    - `start`: the weights file that training starts from
    """

    data: str
    recipe: str
    seed: int
    size: int | None
    architecture: str | None
    model: str | None
    embedding: str | None
    distil: str | None
    start: str | None = None


@dataclass(frozen=True)
class TrainingRun:
    """The models, folders and metadata of one training command.

    - `extra`, `share`: further training images, and their share of every batch
    """

    choice: ModelChoice
    config: Config
    recipe: Recipe
    parts: Splits
    device: str
    tensorboard: bool = False
    compile_mode: str | None = None
    command: str = ""
    extra: ImageData | None = None
    share: float = SHARE

    @property
    def teaches(self) -> bool:
        """Whether a teacher is trained first."""
        return self.choice.recipe == DISTILLATION and self.choice.distil is None

    @property
    def architecture(self) -> str:
        """The architecture's name, unless the model is the user's module."""
        return self._net.architecture

    @cached_property
    def _net(self) -> Net:
        """The architecture: named, that of the start, or the dataset's default.

        **Raises** ValueError for options that do not go together.
        """
        choice, default = self.choice, self.config.net
        if choice.model is not None:
            _check_own(choice)
            return user_net(choice.model, choice.embedding)
        if choice.embedding is not None:
            raise bad_value("--embedding", "come with --model", f"'{choice.embedding}'")
        if choice.start is not None:
            return _net_of(choice)
        named = choice.architecture or default.architecture
        return default if named == default.architecture else Net(named)

    @cached_property
    def start(self) -> dict[str, Any] | None:
        """What is recorded of the weights that training starts from; None where it is anew."""
        if self.choice.start is None:
            return None
        path = weights_at(self.choice.start)
        classes = read_metadata(path)["classes"]
        redrawn = classes != self.parts.train.classes
        name = public_name(self.choice.start)
        return {"weights": name, "digest": Digests().of(path), "new_last_layer": redrawn}

    @property
    def name(self) -> str:
        """The name of the trained model for messages."""
        return self.choice.model or self.architecture

    def model(self, role: str) -> Classifier:
        """A new model on its device; `role` varies its initial weights."""
        seed = random.seed_of(self.choice.seed, role)
        classifier = new_model(self._net, self.parts.train, seed)
        if self.choice.start is not None:
            load_start(classifier, weights_at(self.choice.start))
        if isinstance(self.recipe.objective, AtTemperature):
            classifier = with_temperature(classifier, self.recipe.objective.temperature)
        return prepare(classifier, self.device)

    def described(self) -> str:
        """The recipe in one line: everything that determines the weights, and which are saved."""
        choice, recipe = self.choice, self.recipe
        trained = "" if recipe.adversary is None else recipe.adversary.threat
        against = f" at {trained}" if trained else ""
        if trained and recipe.watch_threat not in (None, trained):
            against += f" for {recipe.watch_threat}"
        is_clean = recipe.adversary is None or recipe.select == "best-clean"
        score = "clean" if is_clean else "robust"
        parts = [
            f"Recipe {choice.recipe}{against}",
            f"{recipe.epochs} epochs",
            f"{self.name} on {choice.data}",
            f"batches of {recipe.batch_size}",
            f"learning rate {recipe.lr:.3g}",
            recipe.precision,
        ]
        if isinstance(recipe.objective, AtTemperature):
            by = "a teacher trained first" if self.teaches else f"'{choice.distil}'"
            parts.append(f"taught by {by} at temperature {recipe.objective.temperature:g}")
        if recipe.average:
            parts.append(f"weights averaged by {recipe.average:g} a step")
        if self.start is not None:
            anew = f" with a new last layer for {self.parts.train.classes} classes"
            parts.append(f"from '{choice.start}'{anew * self.start['new_last_layer']}")
        if self.extra is not None:
            parts.append(
                f"{100 * self.share:.3g} % of each batch from '{self.extra.name}' "
                f"({len(self.extra):,} images)"
            )
        best = f"the best held-out {score} accuracy"
        parts.append(f"weights of {best if recipe.select != 'last' else 'the last epoch'}")
        if recipe.patience:
            parts.append(f"stopped after {recipe.patience} epochs without a better one")
        return ", ".join(parts)

    def teacher(self, console: Console, out: Path, *, overwrite: bool) -> Classifier:
        """The teacher of `distillation`: trained now, or loaded if it is finished.

        **Raises** DataError where the folder holds the teacher of another training, unless it
        may be overwritten.
        """
        folder, role = out / TEACHER, f"{DISTILLATION} {TEACHER}"
        path = folder / MODEL
        if path.exists() and self._is_mine(path, overwrite=overwrite):
            model, _ = open_model(path, self.choice.model, None, None, None)
            return prepare(model, self.device)
        trained = self.train(console, self.model(role), folder, None, role, overwrite=overwrite)
        return prepare(trained.model, self.device)

    def _is_mine(self, path: Path, *, overwrite: bool) -> bool:
        saved, is_user_module = read_metadata(path), self.choice.model is not None
        expected = self._facts() | {"architecture": None if is_user_module else self.architecture}
        expected = {"start": None, "extra": None} | expected
        recipe = saved.get("recipe")
        if isinstance(recipe, Mapping):  # an older version lacks newer fields
            saved = {**saved, "recipe": recipe_as_json(recipe_from_json(recipe))}
        same = all(saved.get(name) == value for name, value in expected.items())
        if not same and not overwrite:
            raise DataError(
                f"The teacher '{path}' belongs to another training. Choose another folder with "
                "--out, or pass --overwrite to replace it."
            )
        return same

    def _facts(self) -> dict[str, Any]:
        choice = self.choice
        facts: dict[str, Any] = {
            "dataset": choice.data,
            "split": {"seed": choice.seed, "train_size": choice.size, "test_size": None},
            "trained_on": self.parts.train.name,
            "train_digest": self.parts.train.digest,
            "class_names": list(self.parts.train.class_names),
            "recipe": recipe_as_json(self.recipe),
        }
        facts |= {} if choice.model is None else {"model": choice.model}
        facts |= {} if self.start is None else {"start": self.start}
        if self.extra is not None:
            extra = {"name": self.extra.name, "digest": self.extra.digest, "share": self.share}
            facts["extra"] = extra
        return facts

    def train(
        self,
        console: Console,
        model: Classifier,
        folder: Path,
        soft: Tensor | None,
        role: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Trained:
        """Trains a model, saves it with its recipe, and writes its logs beside it.

        - `overwrite`: restart where the folder holds a damaged checkpoint, or another's
        """
        choice, checkpoint = self.choice, folder / CHECKPOINT
        facts = {**self._facts(), "command": self.command}
        if soft is not None:
            facts["teacher"] = str(choice.distil or f"{TEACHER}/{MODEL}")
        # A checkpoint is refused by a training of another seed, and so of another start.
        start = () if self.start is None else (self.start["digest"],)
        if checkpoint.exists() and not overwrite:
            console.print(f"Resuming from {checkpoint}.", soft_wrap=True)
        logs = Logs(folder, tensorboard=self.tensorboard, resumed=checkpoint.exists())
        with bar(console, f"train {role or self.name} on {choice.data}") as progress:
            return train_in(
                folder,
                model,
                self.parts.train,
                self.recipe,
                seed=random.seed_of(choice.seed, role or choice.recipe, *start),
                metadata=facts,
                val=self.parts.val,
                soft=soft,
                extra=self.extra,
                share=self.share,
                compile_mode=self.compile_mode,
                restart=overwrite,
                progress=progress,
                on_epoch=logs.write,
                on_end=logs.draw,
            )


def _net_of(choice: ModelChoice) -> Net:
    """The architecture of the weights that training starts from, with its options.

    **Raises** DataError where they are of a user's module; ValueError for another `--architecture`.
    """
    assert choice.start is not None
    facts = read_metadata(weights_at(choice.start))
    name = facts["architecture"]
    if name is None:
        module = facts.get("model", "path/to/file.py:factory")
        raise DataError(f"'{choice.start}' holds a model of your own. Add --model {module}.")
    if choice.architecture not in (None, name):
        raise bad_value(
            "--architecture",
            f"be left out, or be that of --start, {name}",
            f"'{choice.architecture}'",
        )
    return Net(name, tuple(facts["options"].items()))


def _check_own(choice: ModelChoice) -> None:
    """Refuses a user's module together with an architecture."""
    if choice.architecture is not None:
        raise bad_value("--architecture", "be left out with --model", choice.architecture)
