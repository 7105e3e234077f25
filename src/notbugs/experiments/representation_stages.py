"""Stages about what two models' representations hold: they generate images, and judge them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from notbugs.analysis import high_frequency_share, neighbours
from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.data import ImageData
from notbugs.engine import Solver, robust_view
from notbugs.experiments.experiment import Measurements, Stage, Work, save_pictures
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Data, Trained
from notbugs.models import Classifier, frozen
from notbugs.models.decision import predicted
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.principal import PrincipalComponents
from notbugs.models.prior_files import load_prior, save_prior
from notbugs.perception import lpips, ssim
from notbugs.representations import (
    Priors,
    add_feature,
    default_visualisation_solver,
    find_attribute,
    fourier_solver,
    interpolate,
    invert_images,
    most_activating,
    visualise,
)
from notbugs.representations.batches import read_all
from notbugs.representations.priors import NO_PRIORS, Denoise
from notbugs.representations.reading import layer_of
from notbugs.training import train_denoiser, train_generator

PRIOR = "prior.safetensors"
KINDS = ("standard", "robust")
STARTS = ("noise", "another image")
WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Weights of a prior that are tried, in units of the logits' spread over images."""
WEIGHTED = ("total variation", "frequency weights", "denoiser")
VARIANTS = (
    "no prior",
    "total variation",
    "frequency weights",
    "random moves",
    "waves",
    "denoiser",
    "generator",
)
STRENGTHS = (-1.0, 0.5, 1.0, 2.0)
"""What is added to a feature, in units of the difference between the attribute's groups."""
MOST_TRAINING_IMAGES = 4000
"""The number of training images among which neighbours are searched."""
TARGETS_SHOWN, CLASSES_SHOWN, UNITS_SHOWN, PATHS_SHOWN, PUSHES_SHOWN = 8, 10, 10, 3, 8
REAL_SHOWN = 2
"""Test images beside each coordinate that is visualised."""
PASSES = 6.0
"""Cost of a step: forward and backward of a few hundred images."""
CLASSES = 10
"""The usual number, for costs."""
COLUMNS = {
    "relative_error": Column(
        "Match error", "distance of representations relative to the target's", None
    ),
    "start_error": Column("… at the start", "", None),
    "ssim": Column("SSIM", "of pictures and their targets; 1 is equal", None),
    "ssim_before": Column("… at the start", "", None),
    "ssim_error": Column("… error", "the standard error over images", None),
    "lpips": Column("LPIPS", "by the third model's activations; 0 is equal", None),
    "lpips_before": Column("… at the start", "", None),
    "lpips_error": Column("… error", "", None),
    "distance": Column("L2", "distance of pictures to their targets", None),
    "distance_before": Column("… at the start", "", None),
    "distance_error": Column("… error", "", None),
    "pixel_unevenness": Column(
        "Unevenness, pixels", "longest step over the mean step; 1 is even", None
    ),
    "representation_unevenness": Column("Unevenness, representation", "", None),
    "unnatural": Column(
        "Unnatural", "how far a denoiser would move the picture, root mean square of a pixel", None
    ),
    "judge": Column("Judge agrees", "pictures that the third model takes for the class", unit="%"),
    "neighbours": Column(
        "Neighbours agree",
        "pictures that a vote of the ten most similar training images takes for the class",
        unit="%",
    ),
    "rise": Column("Logit", "what was maximised, in standard deviations over images", None),
    "high_frequencies": Column(
        "High frequencies", "energy above a quarter of a cycle a pixel", unit="%"
    ),
    "weight": Column("Weight", "of the prior, in standard deviations of the logits", None),
    "activation": Column("Activation", "of what was made for the coordinate", None),
    "most_of_real": Column("… of the best real image", "", None),
    "missed": Column("Missed", "what is left of the rise that was asked for", None),
    "moved": Column("L2 moved", "distance of pictures to where they started", None),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Prior(Stage[Denoiser | ImageGenerator]):
    """A prior of images, trained on the training images of a split.

    - `role`: "denoiser" or "generator"
    - `epochs`, `width`: of `train_denoiser` or `train_generator`; `upsample`: of the generator
    """

    data: Data
    role: str
    epochs: int
    width: int
    upsample: str = "resize"

    @property
    def label(self) -> str:
        how = "" if self.upsample == "resize" else f" ({self.upsample})"
        return f"train {self.role}{how} · seed {self.data.seed}"

    @property
    def cost(self) -> float:
        return (self.data.train_size or 1400) * self.epochs * 3.0

    def make(self, work: Work) -> None:
        save_prior(self._trained(self.data.train(work), work).cpu(), work.folder / PRIOR)

    def _trained(self, data: ImageData, work: Work) -> Denoiser | ImageGenerator:
        epochs, width, device = self.epochs, self.width, work.device
        seed = random.seed_of(self.data.seed, "prior")
        if self.role == "denoiser":
            return train_denoiser(
                data, epochs=epochs, width=width, seed=seed, device=device, progress=work.progress
            )
        return train_generator(
            data,
            epochs=epochs,
            width=width,
            upsample=self.upsample,
            seed=seed,
            device=device,
            progress=work.progress,
        )

    def load(self, folder: Path, work: Work) -> Denoiser | ImageGenerator:
        net = load_prior(folder / PRIOR)
        assert not isinstance(net, PrincipalComponents)
        return net.to(work.device)


@dataclass(frozen=True)
class Models:
    """The models of a seed: the two that are compared, and one that judges what they make."""

    standard: Trained
    robust: Trained
    judge: Trained


class Loaded:
    """The models of a seed, with images on their device, and what judges images."""

    def __init__(self, models: Models, work: Work) -> None:
        data = models.judge.data
        self.parts, self.seed, self.device = data.splits(work), data.seed, work.device
        self.compared = {
            "standard": work.load(models.standard),
            "robust": work.load(models.robust),
        }
        self.judge = work.load(models.judge)

    def tests(self, count: int) -> tuple[Images, Labels]:
        """The first test images [n, c, h, w] and their labels [n]."""
        few = self.parts.test.select(slice(0, count))
        return few.pixels().to(self.device), few.labels.to(self.device)

    @cached_property
    def known(self) -> tuple[Images, Labels]:
        """Training images [n, c, h, w] and labels [n], drawn at random."""
        train = self.parts.train
        order = torch.randperm(len(train), generator=random.generator(self.seed, "known"))
        rows = order[:MOST_TRAINING_IMAGES]
        return train.pixels(rows).to(self.device), train.labels[rows].to(self.device)

    def classes_seen(self, images: Images) -> dict[str, Labels]:
        """The classes [n] that the judge, and a vote of training images, assign to images."""
        by_vote = neighbours(images, *self.known, classes=self.judge.classes)
        with frozen(self.judge), torch.no_grad():
            judged = torch.cat([predicted(self.judge.logits(part)) for part in images.split(256)])
        return {"judge": judged, "neighbours": by_vote}


def means(numbers: Mapping[str, float | Tensor | None]) -> Columns:
    """A row of a table; tensors are averaged."""
    return {k: float(v.mean()) if isinstance(v, Tensor) else v for k, v in numbers.items()}


@dataclass(frozen=True)
class OfModels(Measurements):
    """A measurement of a seed's models."""

    models: Models

    @property
    def label(self) -> str:
        return f"{type(self).__name__.lower()} · seed {self.models.judge.data.seed}"


@dataclass(frozen=True)
class Inversion(OfModels):
    """Inversion of test images, from noise and from an image of another class.

    Similarity of the images to their targets: SSIM, LPIPS on the judge, and L2. "gain" has the
    mean over images of the robust model's less the standard model's, and its standard error.

    - `targets`: the first test images; `solver`: matches the representations
    """

    targets: int
    solver: Solver

    @property
    def cost(self) -> float:
        return self.targets * self.solver.max_steps * 4 * PASSES

    def measure(self, work: Work) -> Tables:
        loaded, tables = Loaded(self.models, work), {"inversion": {}, "gain": {}}
        x, y = loaded.tests(self.targets)
        perceived = lpips(loaded.judge)

        def close(images: Images) -> dict[str, Tensor]:
            with torch.no_grad():
                apart = (images - x).flatten(1).norm(dim=1)
                return {"ssim": ssim(images, x), "lpips": perceived(images, x), "distance": apart}

        pictures = {"inversion/targets": x[:TARGETS_SHOWN]}
        for start, begin in zip(STARTS, ("noise", of_another_class(x, y)), strict=True):
            found: dict[str, dict[str, Tensor]] = {}
            for kind, model in loaded.compared.items():
                result = invert_images(model, x, start=begin, solver=self.solver, seed=loaded.seed)
                errors = {
                    "relative_error": result.relative_error,
                    "start_error": result.start_error,
                }
                found[kind], before = close(result.x), close(result.start)
                row = errors | found[kind] | {f"{k}_before": v for k, v in before.items()}
                tables["inversion"][f"{kind}, from {start}"] = means(row)
                pictures[f"inversion/{start}/{kind}"] = result.x[:TARGETS_SHOWN]
                pictures[f"inversion/{start}/start"] = result.start[:TARGETS_SHOWN]
                work.progress(len(tables["inversion"]) / 4)
            gains = {k: found["robust"][k] - found["standard"][k] for k in found["robust"]}
            row = means(gains | {f"{k}_error": standard_error(v) for k, v in gains.items()})
            tables["gain"][f"robust - standard, from {start}"] = row
        save_pictures(pictures, work)
        return tables


@dataclass(frozen=True)
class Interpolation(OfModels):
    """Interpolation through each representation and, for comparison, of pixels.

    - `denoiser`: how far it would move a frame is how unnatural the frame is
    - `pairs`: of test images; `points`: frames of each path, the ends included
    """

    denoiser: Prior
    pairs: int
    points: int
    solver: Solver

    @property
    def cost(self) -> float:
        return self.pairs * self.points * self.solver.max_steps * 2 * PASSES

    def measure(self, work: Work) -> Tables:
        loaded, denoise = Loaded(self.models, work), work.load(self.denoiser)
        x, y = loaded.tests(2 * self.pairs)
        first, last = x[: self.pairs], of_another_class(x, y)[: self.pairs]
        rows: dict[str, Columns] = {}
        pictures: dict[str, Tensor] = {}
        for i, (kind, model) in enumerate(loaded.compared.items()):
            result = interpolate(
                model, first, last, points=self.points, solver=self.solver, seed=loaded.seed
            )
            paths = {
                kind: (result.through, result.relative_error),
                f"pixels, seen by {kind}": (result.plain, None),
            }
            for name, (path, error) in paths.items():
                rows[name] = means(
                    {
                        "relative_error": error,
                        "pixel_unevenness": path.pixel_unevenness,
                        "representation_unevenness": path.representation_unevenness,
                        "unnatural": unnatural(denoise, path.frames[:, 1:-1].flatten(0, 1)),
                    }
                )
            for j in range(min(PATHS_SHOWN, self.pairs)):
                pictures[f"path/{j}/{kind}"] = result.through.frames[j]
                pictures[f"path/{j}/pixels"] = result.plain.frames[j]
            work.progress((i + 1) / 2)
        save_pictures(pictures, work)
        return {"interpolation": rows}


@dataclass(frozen=True)
class Visualisation(OfModels):
    """Visualisations of each class with each prior, and of coordinates of the embedding.

    A prior's weight is the one at which judge and neighbours together recognise most for the
    model. Both are used because neighbours ignore contrast and would accept a nearly blank image.

    - `copies`: starts for each class; `units`: coordinates that are visualised
    """

    denoiser: Prior
    generator: Prior
    copies: int
    units: int
    steps: int

    @property
    def cost(self) -> float:
        return CLASSES * self.copies * self.steps * 36 * PASSES

    def measure(self, work: Work) -> Tables:
        loaded, tables = Loaded(self.models, work), {"visualisation": {}, "units": {}}
        pictures: dict[str, Tensor] = {}
        for i, (kind, model) in enumerate(loaded.compared.items()):
            x, _ = loaded.known
            with frozen(model), torch.no_grad():
                spread = float(model.logits(x[:1000]).std(dim=0).mean())
            for j, variant in enumerate(VARIANTS):
                row, images = self._best(loaded, model, variant, spread, work)
                tables["visualisation"][f"{kind}, {variant}"] = row
                pictures[f"seen/{variant}/{kind}"] = images[:: self.copies][:CLASSES_SHOWN]
                work.progress((i + (j + 1) / (len(VARIANTS) + 1)) / 2)
            tables["units"][kind], made = self._units(loaded, model)
            pictures |= {f"units/{kind}/{name}": images for name, images in made.items()}
        save_pictures(pictures, work)
        return tables

    def _best(
        self, loaded: Loaded, model: Classifier, variant: str, spread: float, work: Work
    ) -> tuple[Columns, Images]:
        """The numbers and images at the best weight of a prior."""
        denoise = work.load(self.denoiser)
        tried: list[tuple[float, Columns, Images]] = []
        for weight in WEIGHTS if variant in WEIGHTED else (None,):
            priors = self._priors(variant, (weight or 0.0) * spread, model, work)
            solver = default_visualisation_solver(priors, model.shape[1:], self.steps)
            classes = torch.arange(model.classes).repeat_interleave(self.copies)
            result = visualise(
                model,
                classes,
                layer="logits",
                start="noise",
                solver=fourier_solver(self.steps) if variant == "waves" else solver,
                priors=priors,
                seed=random.seed_of(loaded.seed, "visualise"),
            )
            x, wanted = result.x, classes.to(loaded.device)
            agreed = {
                name: 100 * float((seen == wanted).float().mean())
                for name, seen in loaded.classes_seen(x).items()
            }
            row = {
                **agreed,
                "rise": float(result.activation.mean()) / spread,
                "high_frequencies": 100 * float(high_frequency_share(x).mean()),
                "unnatural": float(unnatural(denoise, x).mean()),
                "weight": weight,
            }
            tried.append((sum(agreed.values()), row, x))
        _, row, x = max(tried, key=lambda each: each[0])  # the first of those that are equal
        return row, x

    def _priors(self, variant: str, weight: float, model: Classifier, work: Work) -> Priors:
        if variant == "total variation":
            return Priors(total_variation=weight)
        if variant == "frequency weights":
            return Priors(frequency_penalty=weight)
        if variant == "denoiser":
            return Priors(denoiser=work.load(self.denoiser), denoising=weight)
        if variant == "random moves":
            return Priors(transform=robust_view(min(model.shape[1:])))
        if variant == "generator":
            generator = work.load(self.generator)
            assert isinstance(generator, ImageGenerator)
            return Priors(generator=generator)
        return NO_PRIORS

    def _units(self, loaded: Loaded, model: Classifier) -> tuple[Columns, dict[str, Images]]:
        """Coordinates of the embedding, beside the test images that activate them most and least.

        Of those that some of 1000 test images activate.
        """
        x, _ = loaded.tests(1000)
        with frozen(model), torch.no_grad():
            active = read_all(model, layer_of(model), x, 256).amax(dim=0) > 0
        units = active.nonzero()[:, 0][: self.units].cpu()
        solver = default_visualisation_solver(NO_PRIORS, model.shape[1:], self.steps)
        result = visualise(model, units, solver=solver, seed=loaded.seed, relaxed_steps=0)
        real = most_activating(model, x, units, count=REAL_SHOWN)
        numbers = {
            "high_frequencies": 100 * high_frequency_share(result.x),
            "activation": result.activation,
            "most_of_real": real.highest_values[:, 0],
        }
        pictures = {"made": result.x}
        for i in range(real.highest.shape[1]):
            pictures[f"most/{i}"] = x[real.highest[:, i].to(x.device)]
            pictures[f"least/{i}"] = x[real.lowest[:, i].to(x.device)]
        return means(numbers), {k: images[:UNITS_SHOWN] for k, images in pictures.items()}


@dataclass(frozen=True)
class Manipulation(OfModels):
    """Each class's most predictive coordinate, added to images of other classes.

    - `pushed`: images to which each class's coordinate is added
    """

    pushed: int
    solver: Solver

    @property
    def cost(self) -> float:
        return CLASSES * self.pushed * self.solver.max_steps * 8 * PASSES

    def measure(self, work: Work) -> Tables:
        loaded = Loaded(self.models, work)
        classes = loaded.judge.classes
        rows: dict[str, Columns] = {}
        pictures: dict[str, Tensor] = {}
        for i, kind in enumerate(KINDS):
            parts: dict[float, list[Tensor]] = {strength: [] for strength in STRENGTHS}
            for c in range(classes):
                firsts = self._push(loaded, kind, c, parts)
                if c < PUSHES_SHOWN:
                    pictures[f"pushed/{c}/{kind}"] = firsts
                work.progress((i + (c + 1) / classes) / 2)
            for strength, measured in parts.items():
                missed, moved, judge, near = torch.cat(measured, dim=1)
                rows[f"{kind}, {strength:+g}"] = means(
                    {
                        "missed": missed,
                        "moved": moved,
                        "judge": 100 * judge,
                        "neighbours": 100 * near,
                    }
                )
        save_pictures(pictures, work)
        return {"manipulation": rows}

    def _push(self, loaded: Loaded, kind: str, c: int, parts: dict[float, list[Tensor]]) -> Images:
        """Adds a class's coordinate at each strength; the first image before and after."""
        model, (train, labels), (tests, true) = (
            loaded.compared[kind],
            loaded.known,
            loaded.tests(500),
        )
        attribute = find_attribute(model, train[labels == c], train[labels != c])
        images = tests[true != c][: self.pushed]
        firsts = [images[0]]
        for strength in STRENGTHS:
            rise = strength * float(attribute.difference[attribute.unit])
            result = add_feature(
                model, images, attribute.unit, rise, solver=self.solver, seed=loaded.seed
            )
            missed = (result.after - result.wanted).abs() / abs(rise)
            agreed = [1.0 * (seen == c) for seen in loaded.classes_seen(result.x).values()]
            parts[strength].append(torch.stack([missed, result.distance, *agreed]))
            firsts.append(result.x[0])
        return torch.stack(firsts)


def unnatural(denoise: Denoise, x: Images) -> Tensor:
    """How far a denoiser would move each image, root mean square in pixel units, [n]."""
    with torch.no_grad():
        return (x - denoise(x)).square().flatten(1).mean(dim=1).sqrt()


def of_another_class(x: Images, y: Labels) -> Images:
    """For each image the next one of another class, wrapping around at the end."""
    n = len(x)
    chosen: list[int] = []
    for i in range(n):
        later = [(i + j) % n for j in range(1, n)]
        chosen.append(next((j for j in later if y[j] != y[i]), (i + 1) % n))
    return x[torch.tensor(chosen, device=x.device)]


def standard_error(values: Tensor) -> float:
    """Of the mean over images, from [n]."""
    return float(values.std() / len(values) ** 0.5)
