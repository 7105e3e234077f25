"""The models that one `notbugs train` makes: the user's, and before it perhaps a teacher."""

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
from notbugs.experiments.config import USER, Config
from notbugs.experiments.making import new_model, train_in
from notbugs.models import Classifier, prepare, read_metadata
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.training import (
    AtTemperature,
    Recipe,
    Trained,
    heated,
    recipe_as_json,
    recipe_from_json,
)

DISTILLATION = "distillation"
TEACHER = "teacher"
"""The folder, inside the other, of the teacher that `distillation` trains first."""


@dataclass(frozen=True)
class Made:
    """What a user named: these decide the weights, beside the recipe's own settings.

    - `recipe`: its name; `size`: images to train on, validation included (None: all)
    - `architecture`: None is the dataset's own; `model`, `embedding`: a user's own module
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
class Making:
    """One command's training: its models, its folders and what is kept of it."""

    made: Made
    config: Config
    recipe: Recipe
    parts: Splits
    device: str
    tensorboard: bool = False
    compile_mode: str | None = None

    @property
    def teaches(self) -> bool:
        """Whether a teacher is trained first."""
        return self.made.recipe == DISTILLATION and self.made.distil is None

    @property
    def architecture(self) -> str:
        """Its name, where it is not the user's own module."""
        return self.made.architecture or self.config.architecture

    @property
    def name(self) -> str:
        """What is trained, in a word or two."""
        return self.made.model or self.architecture

    def model(self, role: str) -> Classifier:
        """A new model on its device; `role` varies its initial weights."""
        made, config = self.made, self.config
        known = self.architecture == config.architecture
        architecture, options = self.architecture, config.options if known else {}
        if made.model is not None:
            _check_own(made)
            architecture, options = USER, {"spec": made.model, "embedding": made.embedding}
        elif made.embedding is not None:
            raise bad_value("--embedding", "come with --model", f"'{made.embedding}'")
        seed = random.seed_of(made.seed, role)
        found = new_model(architecture, options, self.parts.train, seed)
        if isinstance(self.recipe.lesson, AtTemperature):
            found = heated(found, self.recipe.lesson.temperature)
        return prepare(found, self.device)

    def described(self) -> str:
        """The recipe in a line: all that decides the weights, and which are saved."""
        made, recipe = self.made, self.recipe
        trained = "" if recipe.adversary is None else recipe.adversary.threat
        against = f" at {trained}" if trained else ""
        if trained and recipe.watch_threat not in (None, trained):
            against += f" for {recipe.watch_threat}"
        score = "clean" if recipe.adversary is None else "robust"
        words = [
            f"Recipe {made.recipe}{against}",
            f"{recipe.epochs} epochs",
            f"{self.name} on {made.data}",
            f"batches of {recipe.batch_size}",
            f"learning rate {recipe.lr:.3g}",
            recipe.precision,
        ]
        if isinstance(recipe.lesson, AtTemperature):
            by = "a teacher trained first" if self.teaches else f"'{made.distil}'"
            words.append(f"taught by {by} at temperature {recipe.lesson.temperature:g}")
        if recipe.average:
            words.append(f"weights averaged by {recipe.average:g} a step")
        best = f"the best held-out {score} accuracy"
        words.append(f"weights of {best if recipe.select == 'best' else 'the last epoch'}")
        if recipe.patience:
            words.append(f"stopped after {recipe.patience} epochs without a better one")
        return ", ".join(words)

    def teacher(self, console: Console, out: Path, *, overwrite: bool) -> Classifier:
        """The teacher of `distillation`: trained now, or before this command was stopped.

        **Raises** DataError where the folder holds that of another training, unless it may be
        overwritten.
        """
        folder, role = out / TEACHER, f"{DISTILLATION} {TEACHER}"
        path = folder / MODEL
        if path.exists() and self._is_mine(path, overwrite=overwrite):
            model, _ = open_model(path, self.made.model, None, None, None)
            return prepare(model, self.device)
        done = self.done(console, self.model(role), folder, None, role, overwrite=overwrite)
        return prepare(done.model, self.device)

    def _is_mine(self, path: Path, *, overwrite: bool) -> bool:
        theirs, own = read_metadata(path), self.made.model is not None
        mine = self._facts() | {"architecture": None if own else self.architecture}
        recipe = theirs.get("recipe")
        if isinstance(recipe, Mapping):  # one of an older version lacks what came later
            theirs = {**theirs, "recipe": recipe_as_json(recipe_from_json(recipe))}
        same = all(theirs.get(name) == value for name, value in mine.items())
        if not same and not overwrite:
            raise DataError(
                f"The teacher '{path}' is of another training. Choose another folder with --out, "
                "or pass --overwrite to replace it."
            )
        return same

    def _facts(self) -> dict[str, Any]:
        made = self.made
        facts: dict[str, Any] = {
            "dataset": made.data,
            "split": {"seed": made.seed, "train_size": made.size, "test_size": None},
            "trained_on": self.parts.train.name,
            "train_digest": self.parts.train.digest,
            "class_names": list(self.parts.train.class_names),
            "recipe": recipe_as_json(self.recipe),
        }
        return facts if made.model is None else facts | {"model": made.model}

    def done(
        self,
        console: Console,
        model: Classifier,
        folder: Path,
        soft: Tensor | None,
        role: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Trained:
        """Trains a model, saves it with its recipe, and leaves its record beside it.

        - `overwrite`: restart where the folder holds a damaged checkpoint, or another's
        """
        made, checkpoint, facts = self.made, folder / CHECKPOINT, self._facts()
        if soft is not None:
            facts["teacher"] = str(made.distil or f"{TEACHER}/{MODEL}")
        if checkpoint.exists() and not overwrite:
            console.print(f"Going on from {checkpoint}.", soft_wrap=True)
        logs = Logs(folder, tensorboard=self.tensorboard, resumed=checkpoint.exists())
        with bar(console, f"train {role or self.name} on {made.data}") as progress:
            return train_in(
                folder,
                model,
                self.parts.train,
                self.recipe,
                seed=random.seed_of(made.seed, role or made.recipe),
                metadata=facts,
                val=self.parts.val,
                soft=soft,
                compile_mode=self.compile_mode,
                restart=overwrite,
                progress=progress,
                on_epoch=logs.write,
                on_end=logs.draw,
            )


def _check_own(made: Made) -> None:
    """Refuses a module of the user's own without its embedding, or beside an architecture."""
    if made.architecture is not None:
        raise bad_value("--architecture", "be left out with --model", made.architecture)
    if made.embedding is None:
        raise bad_value(
            "--embedding",
            "be given with --model",
            None,
            "Name the layer whose output is the embedding.",
        )
