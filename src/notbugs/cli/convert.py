"""`notbugs convert`: another library's checkpoint as weights of ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from notbugs.cli.common import loaded, moved
from notbugs.cli.kinds import WEIGHTS
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.core.errors import bad_value
from notbugs.data import split
from notbugs.data.files import SUFFIX
from notbugs.judge import accuracy
from notbugs.judge.chance import at_least
from notbugs.models import Classifier, build, load_checkpoint, load_user_model, save_model

GUESSING = 1e-3
"""Probability of as many right by guessing, above which the accuracy is said to be chance."""


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint of another library (torch.save) to weights that every command takes.

    Its tensors alone are read, and nothing in it is run. They are matched by name, behind any
    prefix, or else by order and shape; the accuracy on test images shows whether that was right.

    Try:
      notbugs convert cifar_l2_0_5.pt --architecture resnet50 --data cifar10 --out l2.safetensors
      notbugs convert net.pt --model net.py:make --data cifar10 --out net.safetensors
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A file of torch.save or safetensors, of robustness, RobustBench, timm or your own."""
    data: str
    """The dataset whose classes it knows."""
    out: Path
    """The .safetensors file to write."""
    architecture: str | None = None
    """A built-in architecture (resnet18, resnet50, wide, ...), or timm:NAME or torchvision:NAME."""
    options: tuple[str, ...] = ()
    """Options of a built-in architecture, e.g. depth=34 widen=10 (wide)."""
    model: str | None = None
    """Or your own module: path/to/file.py:factory."""
    part: str = ""
    """Where in the file to look, where several places fit, e.g. state_dict_ema."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; without it the input of the last
    linear layer."""
    mean: tuple[float, ...] = ()
    """Subtracted from images in [0, 1], one number or one a channel; without it what the checkpoint
    holds, or 0."""
    std: tuple[float, ...] = ()
    """Images are then divided by it; without it what the checkpoint holds, or 1."""
    count: int = 1000
    """Test images on which the accuracy is measured."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Reads, matches, measures and writes."""
        self._check()
        source = loaded(self.data, self.data_dir)
        parts = split(source, seed=0)
        model = self._empty(parts.train.shape, parts.train.classes)
        found = load_checkpoint(model.body, self.checkpoint, part=self.part)
        channels = model.shape[0]
        mean = self.mean or found.mean or (0.0,) * channels
        std = self.std or found.std or (1.0,) * channels
        model = self._with(model, mean, std)
        how = "order and shape" if found.by_order else "name"
        where = f" in '{found.place}'" if found.place else ""
        console.print(f"Tensors matched by {how}{where}; mean {_listed(mean)}, std {_listed(std)}.")
        if not self.mean and found.mean is None:
            console.print("The checkpoint holds no mean and std: it is taken to see [0, 1].")
        test = parts.test.select(slice(0, self.count))
        model = moved(model, self.device)
        right = accuracy(model, test)
        console.print(f"Accuracy on {len(test)} test images of {test.name}: {right:.1f} %.")
        if at_least(round(right * len(test) / 100), len(test), 1 / test.classes) > GUESSING:
            console.print(
                "That is near chance: check --mean and --std, the order of the classes, and "
                "whether this architecture is the checkpoint's."
            )
        facts: dict[str, Any] = {
            "dataset": self.data,
            "split": {"seed": 0, "train_size": None, "test_size": None},
            "class_names": list(test.class_names),
            "converted_from": self.checkpoint.name,
        }
        facts |= {} if self.model is None else {"model": self.model}
        save_model(model, self.out, metadata=facts)
        console.print(f"Model: {self.out}", soft_wrap=True)

    def _check(self) -> None:
        if (self.architecture is None) == (self.model is None):
            raise bad_value("--architecture", "be given, or --model", self.architecture)
        if self.options and self.model is not None:
            raise bad_value("--options", "come with --architecture", " ".join(self.options))
        if self.count < 1:
            raise bad_value("--count", "be at least 1", self.count)
        if self.out.suffix != SUFFIX:
            raise bad_value("--out", f"end in {SUFFIX}", f"'{self.out}'", f"Add {SUFFIX}.")
        inputs = inputs_of(
            model=self.model, data=self.data, data_dir=self.data_dir, others=[self.checkpoint]
        )
        check_outputs({"--out": Output(self.out, WEIGHTS)}, inputs, overwrite=self.overwrite)

    def _empty(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """The model without the checkpoint's weights."""
        if self.model is not None:
            return load_user_model(
                self.model, embedding=self.embedding, shape=shape, classes=classes
            )
        options = dict(_option(text) for text in self.options)
        return build(str(self.architecture), shape=shape, classes=classes, seed=0, options=options)

    def _with(
        self, model: Classifier, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> Classifier:
        """The model with that normalisation."""
        return Classifier(
            model.body,
            shape=model.shape,
            classes=model.classes,
            embedding=model.embedding,
            architecture=model.architecture,
            options=model.options,
            mean=mean,
            std=std,
        ).eval()


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise bad_value("--options", "be written name=value", f"'{text}'")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)
