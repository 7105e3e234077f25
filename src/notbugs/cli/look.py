"""`notbugs look`: inversion, visualisation and the like for one model, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich.console import Console
from torch import Tensor

from notbugs.analysis import high_frequency_share
from notbugs.cli.kinds import FOUND, IMAGES, LOOK_NUMBERS, PICTURE
from notbugs.cli.outputs import Output, check_outputs, write_numbers
from notbugs.cli.progress import bar
from notbugs.cli.subject import OfModel, Subject
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.data import ImageData, read_picture, safefile
from notbugs.data.files import SUFFIX
from notbugs.data.writing import write_file
from notbugs.engine import Solver, cropped_view, robust_view, spectrum_of
from notbugs.judge import check_fits
from notbugs.models import Classifier, frozen
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.prior_files import load_prior
from notbugs.perception import ssim
from notbugs.representations import (
    Priors,
    add_feature,
    default_inversion_solver,
    default_visualisation_solver,
    faded,
    find_attribute,
    fourier_solver,
    interpolate,
    invert_images,
    lbfgs_inversion,
    maco_solver,
    most_activating,
    opacity,
    visualise,
)
from notbugs.representations.activations import check_units
from notbugs.representations.reading import STARTS

FIRST = 8
MOST_UNITS = 12
STRENGTHS = (-1.0, 0.5, 1.0, 2.0)
METHODS = ("invert", "interpolate", "visualise", "manipulate")
SEARCHES = ("pixels", "fourier", "maco")
VIEWS = (0.5, 1.0)
"""Shares of an image's sides that MaCo's crops show: small images have no small parts to show."""


@dataclass(frozen=True)
class PriorOptions:
    """With --invert and --visualise."""

    total_variation: float = 0.0
    """Weight of the total variation."""
    frequency_penalty: float = 0.0
    """Weight of the penalty on high frequencies."""
    moves: bool = False
    """The model sees the image under random transformations (jitter, scale, rotation)."""
    denoiser: Path | None = None
    """A denoiser's file (written by reproduce engstrom2019 and `save_prior`)."""
    denoising: float | None = None
    """With --denoiser: its weight; 1 without it."""
    generator: Path | None = None
    """A generator's file; the search is over its latent codes."""

    def priors(self, model: Classifier) -> Priors:
        """The priors for a model's images."""
        denoise: Denoiser | None = None
        make: ImageGenerator | None = None
        if self.denoiser is not None:
            denoise = _of_kind(self.denoiser, Denoiser, "--denoiser", model).to(model.device)
        if self.generator is not None:
            make = _of_kind(self.generator, ImageGenerator, "--generator", model).to(model.device)
        return Priors(
            total_variation=self.total_variation,
            frequency_penalty=self.frequency_penalty,
            denoiser=denoise,
            denoising=(1.0 if self.denoising is None else self.denoising) if denoise else 0.0,
            transform=robust_view(min(model.shape[1:])) if self.moves else None,
            generator=make,
        )


@dataclass(frozen=True)
class Look:
    """Inspect a model's representation: inversion, interpolation, visualisation, manipulation.

    Writes one picture, and the numbers with --json.

    Try:
      notbugs look model.safetensors --invert
      notbugs look model.safetensors --invert --interpolate --image 3 17
      notbugs look model.safetensors --visualise --layer logits --total-variation 0.05
      notbugs look model.safetensors --visualise --layer logits --method maco
      notbugs look model.safetensors --manipulate --toward 5 --image 0 1 2
    """

    draws: ClassVar[bool] = True

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, zoo:NAME, hub:OWNER/REPO or
    imagenet:NAME; with --model also a file of torch.save (.pt)."""
    image: tuple[str, ...] = ()
    """Test images by their number (from 0), or picture files; the first 8 without it."""
    invert: bool = False
    """Search from noise for images of the same representation."""
    interpolate: bool = False
    """From the first image to the second, the third to the fourth ..., by representation."""
    visualise: bool = False
    """An image that maximises each unit of the layer, and the test images that activate it most."""
    manipulate: bool = False
    """Add the feature of --unit, or that of class --toward, to each image."""
    layer: str | None = None
    """A layer by its dotted name, or "logits"; the embedding without it."""
    units: tuple[int, ...] = ()
    """With --visualise: places in the flattened layer; the first 12 without it."""
    all_units: bool = False
    """With --visualise: every place of the layer, as a contact sheet."""
    method: str = "pixels"
    """With --visualise: what is optimised: pixels, fourier (coefficients; smooth images), or maco
    (phases alone, with the magnitudes of the test images, seen in crops)."""
    unit: int | None = None
    """With --manipulate: the place in the flattened layer."""
    toward: int | None = None
    """With --manipulate: a class; its most predictive unit is found on training images."""
    start: str = "noise"
    """With --invert and --visualise: noise, grey or uniform."""
    points: int = 10
    """With --interpolate: frames, the ends included."""
    steps: int = 200
    """Steps of every search."""
    out: Path = Path("look.png")
    """The picture, a .png file."""
    json: Path | None = None
    """Write the numbers to this file."""
    save: Path | None = None
    """Write the images found, lossless, to this .safetensors file."""
    overwrite: bool = False
    """Replace files of those names that notbugs did not write."""
    seed: int = 0
    """Seed of the noise."""
    prior: PriorOptions = PriorOptions()
    given: OfModel = Subject()

    def run(self, console: Console) -> None:
        """Runs every requested method and draws the results."""
        self._check()
        model, facts = self.given.opened(self.weights)
        test = self.given.images("test", facts)
        check_fits(model, test)
        work = _Work(self, model, test, facts, self.prior.priors(model), console)
        work.prepare()
        methods = [method for method in METHODS if getattr(self, method)]
        with bar(console, "Looking") as progress:
            for i, method in enumerate(methods):
                getattr(work, method)()
                progress((i + 1) / len(methods))
        from notbugs.report.figures import png
        from notbugs.report.figures.picture_rows import rows_of_pictures

        picture = png(rows_of_pictures(work.rows))
        write_file(self.out, lambda file: file.write(picture))
        for line in work.lines:
            console.print(line, soft_wrap=True)
        console.print(f"Picture: {self.out}", soft_wrap=True)
        if self.save is not None:
            safefile.write_tensors(self.save, work.found, {IMAGES: "1"})
            console.print(f"Images: {self.save}", soft_wrap=True)
        if self.json is not None:
            write_numbers(self.json, work.numbers)
            console.print(f"Numbers: {self.json}", soft_wrap=True)

    def _check(self) -> None:
        """Validates the options before any work."""
        if not any(getattr(self, method) for method in METHODS):
            flags = ", ".join(f"--{method}" for method in METHODS)
            raise bad_value(flags, "be given, at least one of them", "none")
        if self.manipulate and (self.unit is None) == (self.toward is None):
            raise bad_value(
                "--unit and --toward",
                "be one given, the other not, with --manipulate",
                f"--unit {self.unit}, --toward {self.toward}",
            )
        self._check_idle()
        if self.prior.denoising is not None and self.prior.denoiser is None:
            raise bad_value("--denoising", "come with --denoiser", self.prior.denoising)
        check_count(self.steps, "--steps")
        check_count(self.points, "--points", 3)
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        if self.method not in SEARCHES:
            raise unknown_name("method", self.method, SEARCHES)
        if self.method != "pixels" and self.prior.generator is not None:
            raise bad_value("--method", "be left out with --generator", self.method)
        if self.method == "maco" and self.start == "grey":
            raise bad_value("--start", "be noise or uniform: grey has no phases", self.start)
        if self.out.suffix != ".png":
            raise bad_value("--out", "end in .png", f"'{self.out}'", "Add .png.")
        if self.save is not None and self.save.suffix != SUFFIX:
            raise bad_value("--save", f"end in {SUFFIX}", f"'{self.save}'", f"Add {SUFFIX}.")
        self._check_outputs()

    def _check_idle(self) -> None:
        """Refuses flags that none of the requested methods uses."""
        idle = {
            "--units": bool(self.units) and (self.all_units or not self.visualise),
            "--all-units": self.all_units and not self.visualise,
            "--method": self.method != Look.method and not self.visualise,
            "--unit": self.unit is not None and not self.manipulate,
            "--toward": self.toward is not None and not self.manipulate,
            "--points": self.points != Look.points and not self.interpolate,
            "--start": self.start != Look.start
            and (self.prior.generator is not None or not (self.invert or self.visualise)),
            "a prior": self.prior != PriorOptions() and not (self.invert or self.visualise),
        }
        for flag, unused in idle.items():
            if unused:
                raise bad_value(
                    flag,
                    "be left out where no requested method uses it",
                    "it",
                    "Add the method that `notbugs look --help` names with it.",
                )

    def _check_outputs(self) -> None:
        outputs = {"--out": Output(self.out, PICTURE)}
        if self.json is not None:
            outputs["--json"] = Output(self.json, LOOK_NUMBERS)
        if self.save is not None:
            outputs["--save"] = Output(self.save, FOUND)
        pictures = [Path(name) for name in self.image if not _is_number(name)]
        inputs = self.given.inputs(
            self.weights, [self.prior.denoiser, self.prior.generator, *pictures]
        )
        check_outputs(outputs, inputs, overwrite=self.overwrite)


class _Work:
    """Collects rows of the picture, lines for the terminal, numbers and images."""

    def __init__(
        self,
        options: Look,
        model: Classifier,
        test: ImageData,
        facts: dict[str, Any],
        priors: Priors,
        console: Console,
    ) -> None:
        self.asked, self.model, self.test, self.facts = options, model, test, facts
        self.priors = priors
        self.rows: list[Any] = []
        self.lines: list[str] = []
        self.numbers: dict[str, Any] = {"layer": options.layer, "images": list(self._names())}
        self.found: dict[str, Tensor] = {}
        self.units: list[int] = []
        self.unit, self.strength = 0, 1.0
        self.images = torch.cat([self._image(name, console) for name in self._names()])
        self.images = self.images.to(model.device)

    def prepare(self) -> None:
        """Validates images and units before any search."""
        options = self.asked
        if options.interpolate and len(self.images) % 2:
            raise bad_value(
                "--image", "name an even number of images with --interpolate", len(self.images)
            )
        real = self._real()[:2]
        width = len(most_activating(self.model, real, None, layer=options.layer, count=1).units)
        if options.visualise:
            first = width if options.all_units else min(width, MOST_UNITS)
            self.units = list(options.units) or list(range(first))
            check_units(torch.tensor(self.units), width)
        if options.manipulate:
            self.unit, self.strength = self._feature(width)

    def invert(self) -> None:
        result = invert_images(
            self.model,
            self.images,
            layer=self.asked.layer,
            start=self.asked.start,
            solver=default_inversion_solver(self.priors, self.model.shape[1:], self.asked.steps),
            priors=self.priors,
            seed=self.asked.seed,
        )
        similarity = ssim(result.x, self.images)
        head = "Inversion: images of the same representation, and what the model takes them for"
        self._row("image", self.images, head, self._taken_for(self.images))
        self._row("same to the model", result.x, "", self._taken_for(result.x))
        self.found["inverted"] = result.x
        self.numbers["inversion"] = {
            "priors": list(self.priors.names),
            "relative_error": result.relative_error.tolist(),
            "ssim": similarity.tolist(),
            "distance": result.distance.tolist(),
        }
        self.lines.append(
            f"Inversion: relative error {_mean(result.relative_error)} "
            f"(start {_mean(result.start_error)}), SSIM to the image {_mean(similarity)}."
        )

    def interpolate(self) -> None:
        pairs = len(self.images) // 2
        first, last = self.images[0::2], self.images[1::2]
        result = interpolate(
            self.model,
            first,
            last,
            points=self.asked.points,
            layer=self.asked.layer,
            solver=lbfgs_inversion(self.asked.steps),
            seed=self.asked.seed,
        )
        for i in range(pairs):
            head = "Interpolation: mixed pixels, and through the representation"
            for name, frames in (
                ("pixels", result.plain.frames[i]),
                ("representation", result.through.frames[i]),
            ):
                first_of_all = head if name == "pixels" and not i else ""
                self._row(name, frames, first_of_all, self._taken_for(frames))
        self.found["interpolated"] = result.through.frames
        uneven = result.through.representation_unevenness
        self.numbers["interpolation"] = {
            "relative_error": result.relative_error.tolist(),
            "representation_unevenness": uneven.tolist(),
            "of_mixed_pixels": result.plain.representation_unevenness.tolist(),
        }
        self.lines.append(
            f"Interpolation: longest step over the mean one {_mean(uneven)} in the "
            f"representation; of mixed pixels {_mean(result.plain.representation_unevenness)}."
        )

    def visualise(self) -> None:
        chosen, real = self.units, self._real()
        solver, priors = self._search(real)
        result = visualise(
            self.model,
            chosen,
            layer=self.asked.layer,
            start=self.asked.start,
            solver=solver,
            priors=priors,
            seed=self.asked.seed,
        )
        shown = faded(result.x, opacity(result.attribution), 0.5)
        extremes = most_activating(self.model, real, chosen, layer=self.asked.layer, count=1)
        for places in torch.arange(len(chosen)).split(MOST_UNITS):
            classes = self._taken_for(result.x[places])
            named = [
                f"{self._unit(chosen[i])}: {s}"
                for i, s in zip(places.tolist(), classes, strict=True)
            ]
            layer = self.asked.layer or "the embedding"
            head = f"Units of {layer}, each with what the model takes the image made for it for"
            self._row("made for the unit", result.x[places], head, named)
            if self.asked.method == "maco":
                self._row("where the gradient was", shown[places])
            self._row("most active image", real[extremes.highest[places, 0]])
            self._row("least active image", real[extremes.lowest[places, 0]])
        self.found["visualised"] = result.x
        high = 100 * high_frequency_share(result.x)
        self.numbers["visualisation"] = {
            "method": self.asked.method,
            "priors": list(priors.names),
            "units": chosen,
            "dead": result.dead.tolist(),
            "activation": result.activation.tolist(),
            "of_best_image": extremes.highest_values[:, 0].tolist(),
            "high_frequencies": high.tolist(),
        }
        silent = int(result.dead.sum())
        note = f" {silent} of them had no gradient and are shown as they began." if silent else ""
        self.lines.append(
            f"Visualisation: activation {_mean(result.activation)}, of the best test images "
            f"{_mean(extremes.highest_values[:, 0])}; {float(high.mean()):.0f} % of the "
            f"energy in high frequencies.{note}"
        )

    def _search(self, real: Tensor) -> tuple[Solver, Priors]:
        """The solver of the chosen variables, and the priors that belong to it."""
        steps, size = self.asked.steps, self.model.shape[1:]
        if self.asked.method == "fourier":
            return fourier_solver(steps), self.priors
        if self.asked.method == "pixels":
            return default_visualisation_solver(self.priors, size, steps), self.priors
        priors = self.priors
        if priors.transform is None:
            priors = replace(priors, transform=cropped_view((size[0], size[1]), *VIEWS))
        return maco_solver(steps, spectrum=spectrum_of(real)), priors

    def manipulate(self) -> None:
        unit, unit_strength = self.unit, self.strength
        columns = [self.images]
        numbers: dict[str, Any] = {"unit": unit, "unit_of_strength": unit_strength, "strengths": {}}
        for strength in STRENGTHS:
            result = add_feature(
                self.model,
                self.images,
                unit,
                strength * unit_strength,
                layer=self.asked.layer,
                solver=lbfgs_inversion(self.asked.steps),
                seed=self.asked.seed,
            )
            columns.append(result.x)
            numbers["strengths"][f"{strength:+g}"] = {
                "wanted": result.wanted.tolist(),
                "after": result.after.tolist(),
                "distance": result.distance.tolist(),
            }
        shown = ", ".join(f"{s:+g}" for s in STRENGTHS)
        toward = "" if self.asked.toward is None else f" towards class {self.asked.toward}"
        head = (
            f"Manipulation of unit {unit}{toward}: "
            f"the image, then {shown} times {unit_strength:.3g}"
        )
        strengths = ("as it is", *(f"{s:+g}" for s in STRENGTHS))
        for i in range(len(self.images)):
            row = torch.stack([c[i] for c in columns])
            taken = [f"{s}: {c}" for s, c in zip(strengths, self._taken_for(row), strict=True)]
            self._row(self._names()[i], row, "" if i else head, taken)
        self.found["manipulated"] = torch.stack(columns[1:], dim=1)
        self.numbers["manipulation"] = numbers
        self.lines.append(f"Manipulation: unit {unit}, strengths in units of {unit_strength:.3g}.")

    def _real(self) -> Tensor:
        """The test images that are searched for the most activating ones."""
        some = torch.arange(min(len(self.test), 1000))
        return self.test.pixels(some).to(self.model.device)

    def _feature(self, width: int) -> tuple[int, float]:
        """The unit, and the rise of strength 1: difference of group means, or half the range."""
        layer = self.asked.layer
        if self.asked.unit is not None:
            check_units(torch.tensor([self.asked.unit]), width)
            real = self._real()
            extremes = most_activating(self.model, real, [self.asked.unit], layer=layer, count=1)
            value_range = float(extremes.highest_values[0, 0] - extremes.lowest_values[0, 0])
            return self.asked.unit, value_range / 2 or 1.0
        train = self.asked.given.images("train", self.facts).select(slice(0, 4000))
        label = self.asked.toward
        if label is None or not 0 <= label < train.classes:
            raise bad_value("--toward", f"lie in 0..{train.classes - 1}", label)
        x, in_class = train.pixels().to(self.model.device), train.labels == label
        attribute = find_attribute(self.model, x[in_class], x[~in_class], layer=layer)
        return attribute.unit, float(attribute.difference[attribute.unit])

    def _names(self) -> tuple[str, ...]:
        return self.asked.image or tuple(str(i) for i in range(min(FIRST, len(self.test))))

    def _image(self, name: str, console: Console) -> Tensor:
        """A test image by its number, or a picture file."""
        if not _is_number(name):
            image, done = read_picture(name, self.model.shape)
            for line in done:
                console.print(line, soft_wrap=True)
            return image
        row = int(name)
        if not 0 <= row < len(self.test):
            raise bad_value("--image", f"lie in 0..{len(self.test) - 1}, or name a file", row)
        return self.test.pixels(torch.tensor([row]))

    def _taken_for(self, images: Tensor) -> list[str]:
        """The names of the classes that the model predicts for images [k, c, h, w]."""
        with frozen(self.model), torch.no_grad():
            labels = self.model(images.to(self.model.device)).argmax(dim=1)
        return [self.test.class_names[label] for label in labels.tolist()]

    def _unit(self, unit: int) -> str:
        """A unit's number; of the logits the name of the class."""
        of_class = self.asked.layer == "logits" and unit < len(self.test.class_names)
        return self.test.class_names[unit] if of_class else str(unit)

    def _row(self, name: str, images: Tensor, head: str = "", captions: Sequence[str] = ()) -> None:
        from notbugs.report.figures.picture_rows import PictureRow

        pictures = list(images.detach().cpu().numpy())
        self.rows.append(PictureRow(name, pictures, head, captions))


def _of_kind(path: Path, kind: type[Any], flag: str, model: Classifier) -> Any:
    prior = load_prior(path)
    if not isinstance(prior, kind):
        raise bad_value(flag, f"name a {flag[2:]}'s file", f"'{path}', which is another net")
    if tuple(prior.shape) != tuple(model.shape):
        raise bad_value(
            flag,
            f"be made for images of shape {tuple(model.shape)}, as the model is",
            f"shape {tuple(prior.shape)}",
        )
    return prior


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdigit()


def _mean(values: Tensor) -> str:
    return f"{float(values.mean()):.3g}"
