"""What most commands are about: a model, the images it sees, and where both are computed."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
import tyro

from notbugs.cli.common import moved, open_model, saved_set
from notbugs.cli.outputs import Inputs, inputs_of
from notbugs.core import random
from notbugs.core.errors import DataWarning, bad_value, check_count, unknown_name
from notbugs.data import ImageData, Splits, load
from notbugs.data.sources.load import FOLDER
from notbugs.models import Classifier
from notbugs.models.origin import origin_of, source_for, split_as, splits_for

PARTS = ("train", "val", "test", "all")


@dataclass(frozen=True)
class Subject:
    """Images are of the dataset that the weights name, unless another is given."""

    data: str | None = None
    """Another dataset (see notbugs data list), or a saved set (.safetensors)."""
    data_dir: Path | None = None
    """Where the dataset's files lie (else $NOTBUGS_DATA, else downloaded)."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; without it what the weights name, or
    the input of the last linear layer."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def opened(self, weights: Path) -> tuple[Classifier, dict[str, Any]]:
        """The model on its device, and the metadata of its weights (see `open_model`)."""
        model, facts = open_model(weights, self.model, self.embedding, self.data, self.data_dir)
        return moved(model, self.device), facts

    def inputs(self, weights: Path | None = None, others: Sequence[Path | None] = ()) -> Inputs:
        """The files that are read, which no output may replace."""
        return inputs_of(
            weights=weights, model=self.model, data=self.data, data_dir=self.data_dir, others=others
        )

    def splits(self, facts: Mapping[str, Any]) -> Splits:
        """The split that the model was trained on, or that of the dataset the user names.

        A saved set is split as a dataset without parts is.

        **Raises** DataError where the weights record no dataset and none is named.
        """
        return splits_for(facts, self.data, self.data_dir)

    def images(self, part: str, facts: Mapping[str, Any]) -> ImageData:
        """A saved set, or a part of a dataset: "train", "val" or "test"."""
        return load(self.saved) if self.saved is not None else getattr(self.splits(facts), part)

    @property
    def saved(self) -> Path | None:
        """The file of a saved set, where one was given."""
        return saved_set(self.data)


@dataclass(frozen=True)
class SomeImages(Subject):
    """Images are of the dataset that the weights name, unless another is given."""

    part: str | None = None
    """train, val, test, or all (of a set that has no parts); without it test, for build train."""
    count: int | None = None
    """So many images, the first ones; all without it."""

    def chosen(self, part: str, facts: Mapping[str, Any]) -> ImageData:
        """The images that were asked for; `part`: where none is named.

        **Raises** ValueError for "all" of a dataset that has parts.
        """
        if self.count is not None:
            check_count(self.count, "--count")
        if self.part is not None and self.part not in PARTS:
            raise unknown_name("--part", self.part, PARTS)
        if self.saved is None or self._is_recorded(facts):
            images = self._part(part, facts)
        elif self.part is not None:
            raise bad_value("--part", "be left out for a saved set", f"'{self.part}'")
        else:
            images = load(self.saved)
        return images.select(slice(0, self.count))

    def _is_recorded(self, facts: Mapping[str, Any]) -> bool:
        """Whether the saved set is the one that was trained on, of which a part was held out."""
        recorded = saved_set(origin_of(facts).get("dataset"))
        return recorded is not None and recorded.resolve() == Path(str(self.saved)).resolve()

    def _part(self, part: str, facts: Mapping[str, Any]) -> ImageData:
        source = source_for(facts, self.data, self.data_dir)
        if self.part == "all":
            if source.test is not None:
                has = f"'{source.name}' has parts of its own."
                raise bad_value("--part", "be train, val or test", "'all'", has)
            # Folders are sorted by class; --count takes the first.
            order = torch.randperm(len(source.train), generator=random.generator(0, "all"))
            return source.train.select(order)
        images = getattr(split_as(source, facts, self.data), self.part or part)
        own = source.name.startswith(FOLDER)  # of a published set all know what its test part is
        if own and self.data is not None and self.part is None and source.test is None:
            warnings.warn(
                f"'{source.name}' has no parts: these are the {len(images)} of its "
                f"{len(source.train)} images that make the {part} part, which a model trained "
                "elsewhere may have seen. --part all takes them all.",
                DataWarning,
                stacklevel=2,
            )
        return images


OfModel: TypeAlias = Annotated[Subject, tyro.conf.arg(name="model and data")]
OfImages: TypeAlias = Annotated[SomeImages, tyro.conf.arg(name="model and data")]
"""The two as one box of a command's help."""
