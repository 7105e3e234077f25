"""Inputs and results of the stages that measure representations, and the training of priors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from notbugs.analysis import neighbours
from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.data import Splits, safefile
from notbugs.data.writing import write_json
from notbugs.engine import Solver
from notbugs.experiments.stages import model_of, splits_of
from notbugs.models import Classifier, frozen
from notbugs.models.decision import predicted
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.prior_files import load_prior, save_prior
from notbugs.perception import lpips, ssim
from notbugs.representations import inversion, lbfgs_inversion
from notbugs.store import StageContext
from notbugs.training import train_denoiser, train_generator

NUMBERS = "numbers.json"
PICTURES = "pictures.safetensors"
PRIOR = "prior.safetensors"
KINDS = ("standard", "robust")
MOST_TRAINING_IMAGES = 4000
"""The number of training images among which neighbours are searched."""

Row = dict[str, Any]


class StageIO:
    """A measurement's inputs (both models, an independent judge, images) and its results."""

    def __init__(self, context: StageContext) -> None:
        """Loads the stage's inputs."""
        self.context, self.config = context, context.config
        self.parts: Splits = splits_of(context)
        self.seed: int = self.config["seed"]
        inputs = context.inputs
        self.models = {kind: model_of(context, kind) for kind in KINDS if kind in inputs}
        self.judge: Classifier = model_of(context, "judge")
        self.device = self.judge.device
        self.tables: dict[str, list[Row]] = {}
        self.pictures: dict[str, Tensor] = {}
        self.lpips = lpips(self.judge)
        self._known: dict[int, tuple[Images, Labels]] = {}

    def denoiser(self) -> Denoiser:
        """The trained denoiser."""
        prior = load_prior(self.context.inputs["denoiser"] / PRIOR)
        assert isinstance(prior, Denoiser)
        return prior.to(self.device)

    def generator(self, name: str = "generator") -> ImageGenerator:
        """The trained generator of that name."""
        prior = load_prior(self.context.inputs[name] / PRIOR)
        assert isinstance(prior, ImageGenerator)
        return prior.to(self.device)

    def tests(self, count: int) -> tuple[Images, Labels]:
        """The first test images and their labels, on the models' device."""
        few = self.parts.test.select(slice(0, count))
        return few.pixels().to(self.device), few.labels.to(self.device)

    def trained_on(self, count: int = MOST_TRAINING_IMAGES) -> tuple[Images, Labels]:
        """Training images and labels, drawn at random, on the models' device."""
        if count not in self._known:
            train = self.parts.train
            order = torch.randperm(len(train), generator=random.generator(self.seed, "known"))
            pixels, labels = train.pixels(order[:count]), train.labels[order[:count]]
            self._known[count] = pixels.to(self.device), labels.to(self.device)
        return self._known[count]

    def solver(self) -> Solver:
        """The solver that matches representations."""
        steps = self.config["inversion_steps"]
        if self.config["inversion_rule"] == "lbfgs":
            return lbfgs_inversion(steps)
        return inversion(steps, self.config["inversion_step_size"])

    def classes_seen(self, images: Images) -> dict[str, Labels]:
        """The classes [n] that the judge, and a vote of training images, assign to images."""
        train, labels = self.trained_on()
        by_vote = neighbours(images, train, labels, classes=self.judge.classes)
        with frozen(self.judge), torch.no_grad():
            judged = torch.cat([predicted(self.judge.logits(part)) for part in images.split(256)])
        return {"judge": judged, "neighbours": by_vote}

    def close(self, x: Images, targets: Images) -> dict[str, Tensor]:
        """Similarity of images to their targets: SSIM, LPIPS on the judge, L2; each [n]."""
        with torch.no_grad():
            return {
                "ssim": ssim(x, targets),
                "lpips": self.lpips(x, targets),
                "distance": (x - targets).flatten(1).norm(dim=1),
            }

    def add(self, table: str, row: str, numbers: Mapping[str, float | Tensor]) -> None:
        """Adds a row to a table; tensors are averaged."""
        values = {k: float(v.mean()) if isinstance(v, Tensor) else v for k, v in numbers.items()}
        self.tables.setdefault(table, []).append({"row": row, **values})

    def show(self, name: str, images: Tensor) -> None:
        """Keeps pictures of the first seed for the report."""
        if self.seed == 0:
            self.pictures[name] = images.detach().cpu()

    def write(self) -> None:
        """Writes numbers and pictures."""
        work = self.context.work
        safefile.write_tensors(work / PICTURES, self.pictures, {})
        write_json(work / NUMBERS, self.tables)


def train_prior(context: StageContext) -> None:
    """Trains a denoiser or a generator on the seed's training images."""
    config, train = context.config, splits_of(context).train
    make = train_denoiser if config["role"] == "denoiser" else train_generator
    options = {} if config["role"] == "denoiser" else {"upsample": config["upsample"]}
    net = make(
        train,
        epochs=config["epochs"],
        width=config["width"],
        seed=random.seed_of(config["seed"], "prior"),
        device=context.settings.get("device", "cpu"),
        progress=context.progress,
        **options,
    )
    save_prior(net.cpu(), context.work / PRIOR)
