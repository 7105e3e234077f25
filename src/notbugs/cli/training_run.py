"""One `notbugs train` command: trains the model, and for distillation first a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from notbugs.cli.common import open_model
from notbugs.cli.logs import Logs
from notbugs.cli.progress import bar
from notbugs.core import random
from notbugs.core.errors import DataError, bad_value
from notbugs.data import Splits
from notbugs.experiments.config import Config
from notbugs.experiments.model_training import Net, new_model, train_in, user_net
from notbugs.models import Classifier, prepare, read_metadata
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.training import (
    AtTemperature,
    Recipe,
    Trained,
    recipe_as_json,
    recipe_from_json,
    with_temperature,
)

DISTILLATION = "distillation"
TEACHER = "teacher"
"""The folder, inside the other, of the teacher that `distillation` trains first."""


@dataclass(frozen=True)
class ModelChoice:
    """The user's options that determine the weights, besides the recipe's settings.

    - `recipe`: its name; `size`: images to train on, validation included (None: all)
    - `architecture`: None means the dataset's default; `model`, `embedding`: a user's module
    - `distil`: the weights file of the teacher
    """

    data: str
    recipe: str
    seed: int
    size: int | None
    architecture: str | None
    model: str | None
    embedding: str | None
    distil: str | None


@dataclass(frozen=True)
class TrainingRun:
    """The models, folders and metadata of one training command."""

    choice: ModelChoice
    config: Config
    recipe: Recipe
    parts: Splits
    device: str
    tensorboard: bool = False
    compile_mode: str | None = None
    command: str = ""

    @property
    def teaches(self) -> bool:
        """Whether a teacher is trained first."""
        return self.choice.recipe == DISTILLATION and self.choice.distil is None

    @property
    def architecture(self) -> str:
        """The architecture's name, unless the model is the user's module."""
        return self.choice.architecture or self.config.net.architecture

    @property
    def name(self) -> str:
        """The name of the trained model for messages."""
        return self.choice.model or self.architecture

    def model(self, role: str) -> Classifier:
        """A new model on its device; `role` varies its initial weights."""
        choice, config = self.choice, self.config
        is_default = self.architecture == config.net.architecture
        net = config.net if is_default else Net(self.architecture)
        if choice.model is not None:
            _check_own(choice)
            net = user_net(choice.model, choice.embedding)
        elif choice.embedding is not None:
            raise bad_value("--embedding", "come with --model", f"'{choice.embedding}'")
        seed = random.seed_of(choice.seed, role)
        classifier = new_model(net, self.parts.train, seed)
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
        return facts if choice.model is None else facts | {"model": choice.model}

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
        if checkpoint.exists() and not overwrite:
            console.print(f"Resuming from {checkpoint}.", soft_wrap=True)
        logs = Logs(folder, tensorboard=self.tensorboard, resumed=checkpoint.exists())
        with bar(console, f"train {role or self.name} on {choice.data}") as progress:
            return train_in(
                folder,
                model,
                self.parts.train,
                self.recipe,
                seed=random.seed_of(choice.seed, role or choice.recipe),
                metadata=facts,
                val=self.parts.val,
                soft=soft,
                compile_mode=self.compile_mode,
                restart=overwrite,
                progress=progress,
                on_epoch=logs.write,
                on_end=logs.draw,
            )


def _check_own(choice: ModelChoice) -> None:
    """Refuses a user's module together with an architecture."""
    if choice.architecture is not None:
        raise bad_value("--architecture", "be left out with --model", choice.architecture)
