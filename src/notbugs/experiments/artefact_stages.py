"""Stages about spectra and checkerboards of gradients and pictures, and high frequencies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.analysis import (
    as_pattern,
    band_pass,
    checkerboard,
    downsamplings,
    high_frequency_share,
    input_gradients,
    pattern_response,
    radial_spectrum,
)
from notbugs.core import random
from notbugs.experiments.experiment import Measurements, Work, save_pictures
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.representation_stages import (
    CLASSES,
    PASSES,
    Loaded,
    OfModels,
    Prior,
    means,
)
from notbugs.experiments.shared import Trained
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.generator import ImageGenerator
from notbugs.representations import default_visualisation_solver, visualise
from notbugs.representations.priors import NO_PRIORS

EPS = (0.02, 0.05, 0.1, 0.2)
HIGH = 0.25
"""Cycles a pixel above which the patterns lie."""
SHOWN = 6
COLUMNS = {
    "zero": Column("Zero gradients", "images without any gradient", unit="%"),
    "alone": Column("Rise alone", "of the class's logit, on grey, in standard deviations", None),
    "added": Column("Rise on images", "the same where the pattern is added to images", None),
    "seen_alone": Column("Visible alone", "1 - SSIM of grey with and without the pattern", None),
    "seen_added": Column("Visible on images", "1 - SSIM of images with and without it", None),
    "clean": Column("Clean", "accuracy on the test images", unit="%"),
    "even": Column("Even overlap", "1: every place is read equally often", 0),
    "gradient_board": Column("Checkerboard, gradients", "of period 2, as the next", None),
    "picture_board": Column("Checkerboard, pictures", "1: none, as in the first table", None),
    **{
        f"board_{p}": Column(
            f"Checkerboard, {p}",
            f"power of waves that repeat every {p} pixels over that of their neighbours (1: none)",
            None,
        )
        for p in (2, 4, 8, 16, 32)
    },
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Artefacts(OfModels):
    """Spectra of both models' input gradients, and responses to high-frequency patterns.

    - `steps`: of the class visualisations that the patterns are the high frequencies of
    """

    steps: int

    @property
    def cost(self) -> float:
        return CLASSES * self.steps * 2 * PASSES

    def measure(self, work: Work) -> Tables:
        loaded, tables = Loaded(self.models, work), {"gradients": {}, "patterns": {}}
        x, y = loaded.tests(500)
        pictures: dict[str, Tensor] = {}
        for i, (kind, model) in enumerate(loaded.compared.items()):
            gradients = input_gradients(model, x, y)
            pictures |= _spectrum(gradients, kind)
            nonzero = gradients.flatten(1).any(dim=1)
            share = 100 * high_frequency_share(gradients[nonzero])
            zero = 100 * float((~nonzero).float().mean())
            row = {"high_frequencies": share, "zero": zero, **_boards(gradients, model)}
            tables["gradients"][kind] = means(row)
            rows, patterns = self._patterns(loaded, model)
            tables["patterns"] |= {f"{kind}, {name}": row for name, row in rows.items()}
            pictures[f"pattern/{kind}"] = 0.5 + 0.5 * patterns[:SHOWN]
            work.progress((i + 1) / 3)
        share = 100 * high_frequency_share(x)
        tables["gradients"]["images"] = means(
            {"high_frequencies": share, **_boards(x, loaded.judge)}
        )
        save_pictures(pictures | _spectrum(x, "images"), work)
        return tables

    def _patterns(self, loaded: Loaded, model: Classifier) -> tuple[dict[str, Columns], Tensor]:
        """Responses to the high frequencies of class visualisations, alone and on images."""
        visualised = _class_pictures(model, self.steps, loaded.seed)
        grey = torch.full_like(visualised, 0.5)
        waves = band_pass(visualised - grey, HIGH)
        largest = waves.abs().flatten(1).amax(dim=1).clamp(min=1e-9)
        patterns = as_pattern((grey + 0.5 * waves / largest[:, None, None, None]).clamp(0, 1))
        images, _ = loaded.tests(200)
        classes = torch.arange(model.classes, device=loaded.device)
        response = pattern_response(model, patterns, classes, images, EPS, layer="logits")
        spread = response.spread.clamp(min=1e-9)
        rows = {
            f"eps {eps:g}": means(
                {
                    "alone": response.alone[i] / spread,
                    "added": response.added[i] / spread,
                    "seen_alone": response.seen_alone[i],
                    "seen_added": response.seen_added[i],
                }
            )
            for i, eps in enumerate(EPS)
        }
        return rows, patterns


@dataclass(frozen=True)
class Downsampling(Measurements):
    """Checkerboards by how a classifier halves its maps, and by how a generator doubles them.

    - `classifiers`, `generators`: by the name of the way; `steps`: of the class visualisations
    """

    classifiers: tuple[tuple[str, Trained], ...]
    generators: tuple[tuple[str, Prior], ...]
    steps: int

    @property
    def label(self) -> str:
        return f"downsampling · seed {self.generators[0][1].data.seed}"

    @property
    def cost(self) -> float:
        return CLASSES * self.steps * 3 * PASSES

    def measure(self, work: Work) -> Tables:
        data = self.generators[0][1].data
        test = data.splits(work).test
        few = test.select(slice(0, 500))
        x, y = few.pixels().to(work.device), few.labels.to(work.device)
        rows: dict[str, Columns] = {}
        pictures: dict[str, Tensor] = {}
        for how, trained in self.classifiers:
            model = work.load(trained)
            gradients = input_gradients(model, x, y)
            images = _class_pictures(model, self.steps, data.seed)
            numbers = {
                "clean": accuracy(model, test),
                "even": float(all(d.even for d in downsamplings(model))),
                "gradient_board": _board(gradients),
                "picture_board": _board(images),
                "high_frequencies": 100 * high_frequency_share(gradients),
            }
            rows[f"classifier, {how}"] = means(numbers)
            # Black and white are three standard deviations.
            pictures[f"down/{how}"] = (0.5 + _scaled(gradients[:SHOWN]) / 6).clamp(0, 1)
        codes = torch.randn(256, 16, generator=random.generator(data.seed, "codes"))
        for how, prior in self.generators:
            net = work.load(prior)
            assert isinstance(net, ImageGenerator)
            with torch.no_grad():
                images = net.decode(codes[:, : net.width].to(work.device))
            rows[f"generator, {how}"] = {"picture_board": _board(images)}
            pictures[f"up/{how}"] = images[:SHOWN]
        save_pictures(pictures, work)
        return {"downsampling": {**rows, "images": {"picture_board": _board(x)}}}


def _class_pictures(model: Classifier, steps: int, seed: int) -> Tensor:
    """Visualisations of all classes, starting from grey."""
    solver = default_visualisation_solver(NO_PRIORS, model.shape[1:], steps)
    return visualise(model, layer="logits", start="grey", solver=solver, seed=seed).x


def _spectrum(images: Tensor, name: str) -> dict[str, Tensor]:
    """The mean power [k] of images scaled to equal standard deviation, and its frequencies [k]."""
    spectrum = radial_spectrum(_scaled(images))
    power = spectrum.power.mean(dim=0)
    return {f"spectrum/{name}": power, "spectrum/frequency": spectrum.frequency}


def _boards(images: Tensor, model: Classifier) -> dict[str, float]:
    """The checkerboard scores of the model's periods, where the images are large enough."""
    periods = sorted({d.period for d in downsamplings(model)} | {2})
    return {f"board_{p}": _board(images, p) for p in periods if min(images.shape[2:]) >= 3 * p}


def _board(images: Tensor, period: int = 2) -> float:
    """The checkerboard score with images scaled to equal standard deviation."""
    return checkerboard(_scaled(images), period) if min(images.shape[2:]) >= 3 * period else 0.0


def _scaled(images: Tensor) -> Tensor:
    """Each image divided by its own spread; an image without any stays as it is."""
    spread = images.flatten(1).std(dim=1)
    return images / torch.where(spread > 0, spread, 1)[:, None, None, None]
