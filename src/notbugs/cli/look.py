"""`notbugs look`: what a model sees in images, and what its parts look for, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import Tensor

from notbugs.analysis import high_frequency_share
from notbugs.cli.common import (
    images_for,
    moved,
    open_model,
)
from notbugs.cli.kinds import FOUND, IMAGES, PICTURE, SEEN
from notbugs.cli.outputs import Output, check_outputs, inputs_of, write_numbers
from notbugs.cli.progress import bar
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.data import ImageData, read_picture, safefile
from notbugs.data.files import SUFFIX
from notbugs.data.writing import write_file
from notbugs.engine import robust_view
from notbugs.judge import check_fits
from notbugs.models import Classifier, frozen
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.prior_files import load_prior
from notbugs.perception import ssim
from notbugs.representations import (
    Priors,
    add_feature,
    find_attribute,
    interpolate,
    invert_images,
    most_activating,
    quick_inversion,
    usual_inversion,
    usual_visualisation,
    visualise,
)
from notbugs.representations.activations import check_units
from notbugs.representations.reading import STARTS

FIRST = 8
MOST_UNITS = 12
STRENGTHS = (-1.0, 0.5, 1.0, 2.0)
WAYS = ("invert", "interpolate", "visualise", "manipulate")


@dataclass(frozen=True)
class Look:
    """See what a model sees: inversion, interpolation, visualisation, manipulation.

    Writes one picture, and the numbers with --json.

    Try:
      notbugs look model.safetensors --invert
      notbugs look model.safetensors --invert --interpolate --image 3 17
      notbugs look model.safetensors --visualise --layer logits --smoothness 0.05
      notbugs look model.safetensors --manipulate --toward 5 --image 0 1 2
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, or the folder that train wrote."""
    image: tuple[str, ...] = ()
    """Test images by their number (from 0), or picture files; the first 8 without it."""
    invert: bool = False
    """Search from noise for images of the same representation."""
    interpolate: bool = False
    """From the first image to the second, the third to the fourth ..., by representation."""
    visualise: bool = False
    """What makes each unit of the layer most active, and the test images that do."""
    manipulate: bool = False
    """Add the feature of --unit, or that of class --toward, to each image."""
    layer: str | None = None
    """A layer by its dotted name, or "logits"; the embedding without it."""
    units: tuple[int, ...] = ()
    """With --visualise: places in the flattened layer; the first 12 without it."""
    all_units: bool = False
    """With --visualise: every place of the layer, as a contact sheet."""
    unit: int | None = None
    """With --manipulate: the place in the flattened layer."""
    toward: int | None = None
    """With --manipulate: a class, whose best coordinate is looked up among training images."""
    start: str = "noise"
    """With --invert and --visualise: noise, grey or uniform."""
    points: int = 10
    """With --interpolate: frames, the ends included."""
    steps: int = 200
    """Steps of every search."""
    smoothness: float = 0.0
    """Prior, as all below with --invert and --visualise: weight of the total variation."""
    slowness: float = 0.0
    """Prior: weight of high frequencies."""
    moves: bool = False
    """Prior: the model sees the image moved at random."""
    denoiser: Path | None = None
    """Prior: a denoiser's file (reproduce engstrom2019 and `save_prior` write such)."""
    denoising: float | None = None
    """With --denoiser: its weight; 1 without it."""
    generator: Path | None = None
    """Prior: a generator's file, of whose codes the images are made."""
    out: Path = Path("look.png")
    """The picture, a .png file."""
    json: Path | None = None
    """Write the numbers to this file."""
    save: Path | None = None
    """Write the images found, lossless, to this .safetensors file."""
    overwrite: bool = False
    """Replace files of those names that notbugs did not write."""
    data: str | None = None
    """Another dataset, or a saved set (.safetensors), than the weights name."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; our own weights name it."""
    seed: int = 0
    """Seed of the noise."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Looks in every way that was asked for, and draws it."""
        self._check()
        model, facts = open_model(
            self.weights, self.model, self.embedding, self.data, self.data_dir
        )
        test = images_for("test", facts, self.data, self.data_dir, None, None)
        check_fits(model, test)
        model = moved(model, self.device)
        work = _Work(self, model, test, facts, self._priors(model), console)
        work.prepare()
        ways = [way for way in WAYS if getattr(self, way)]
        with bar(console, "Looking") as progress:
            for i, way in enumerate(ways):
                getattr(work, way)()
                progress((i + 1) / len(ways))
        from notbugs.report.figures import png
        from notbugs.report.figures.looks import rows_of_pictures

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
        """Refuses what cannot end well before any work."""
        if not any(getattr(self, way) for way in WAYS):
            named = ", ".join(f"--{way}" for way in WAYS)
            raise bad_value(named, "be given, at least one of them", "none")
        if self.manipulate and (self.unit is None) == (self.toward is None):
            raise bad_value(
                "--unit and --toward",
                "be one given, the other not, with --manipulate",
                f"--unit {self.unit}, --toward {self.toward}",
            )
        self._check_idle()
        if self.denoising is not None and self.denoiser is None:
            raise bad_value("--denoising", "come with --denoiser", self.denoising)
        check_count(self.steps, "--steps")
        check_count(self.points, "--points", 3)
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        if self.out.suffix != ".png":
            raise bad_value("--out", "end in .png", f"'{self.out}'", "Add .png.")
        if self.save is not None and self.save.suffix != SUFFIX:
            raise bad_value("--save", f"end in {SUFFIX}", f"'{self.save}'", f"Add {SUFFIX}.")
        self._check_outputs()

    def _check_idle(self) -> None:
        """Refuses a flag that no way that was asked for would look at."""
        priors = self.smoothness or self.slowness or self.moves or self.denoiser or self.generator
        idle = {
            "--units": bool(self.units) and (self.all_units or not self.visualise),
            "--all-units": self.all_units and not self.visualise,
            "--unit": self.unit is not None and not self.manipulate,
            "--toward": self.toward is not None and not self.manipulate,
            "--points": self.points != Look.points and not self.interpolate,
            "--start": self.start != Look.start
            and (self.generator is not None or not (self.invert or self.visualise)),
            "a prior": bool(priors) and not (self.invert or self.visualise),
        }
        for flag, unused in idle.items():
            if unused:
                raise bad_value(
                    flag,
                    "be left out where no way that was asked for uses it",
                    "it",
                    "Add the way that `notbugs look --help` names with it.",
                )

    def _check_outputs(self) -> None:
        outputs = {"--out": Output(self.out, PICTURE)}
        if self.json is not None:
            outputs["--json"] = Output(self.json, SEEN)
        if self.save is not None:
            outputs["--save"] = Output(self.save, FOUND)
        pictures = [Path(name) for name in self.image if not _is_number(name)]
        inputs = inputs_of(
            weights=self.weights,
            model=self.model,
            data=self.data,
            data_dir=self.data_dir,
            others=[self.denoiser, self.generator, *pictures],
        )
        check_outputs(outputs, inputs, overwrite=self.overwrite)

    def _priors(self, model: Classifier) -> Priors:
        denoise: Denoiser | None = None
        make: ImageGenerator | None = None
        if self.denoiser is not None:
            denoise = _of_kind(self.denoiser, Denoiser, "--denoiser", model).to(model.device)
        if self.generator is not None:
            make = _of_kind(self.generator, ImageGenerator, "--generator", model).to(model.device)
        return Priors(
            smoothness=self.smoothness,
            slowness=self.slowness,
            denoiser=denoise,
            denoising=(1.0 if self.denoising is None else self.denoising) if denoise else 0.0,
            transform=robust_view(min(model.shape[1:])) if self.moves else None,
            generator=make,
        )


class _Work:
    """Rows of the picture, lines for the terminal, numbers and images, as they are found."""

    def __init__(
        self,
        asked: Look,
        model: Classifier,
        test: ImageData,
        facts: dict[str, Any],
        priors: Priors,
        console: Console,
    ) -> None:
        self.asked, self.model, self.test, self.facts = asked, model, test, facts
        self.priors = priors
        self.rows: list[Any] = []
        self.lines: list[str] = []
        self.numbers: dict[str, Any] = {"layer": asked.layer, "images": list(self._names())}
        self.found: dict[str, Tensor] = {}
        self.units: list[int] = []
        self.unit, self.strength = 0, 1.0
        self.images = torch.cat([self._image(name, console) for name in self._names()])
        self.images = self.images.to(model.device)

    def prepare(self) -> None:
        """Finds out what could not end well, before anything is searched for."""
        asked = self.asked
        if asked.interpolate and len(self.images) % 2:
            raise bad_value(
                "--image", "name an even number of images with --interpolate", len(self.images)
            )
        real = self._real()[:2]
        width = len(most_activating(self.model, real, None, layer=asked.layer, count=1).units)
        if asked.visualise:
            first = width if asked.all_units else min(width, MOST_UNITS)
            self.units = list(asked.units) or list(range(first))
            check_units(torch.tensor(self.units), width)
        if asked.manipulate:
            self.unit, self.strength = self._feature(width)

    def invert(self) -> None:
        made = invert_images(
            self.model,
            self.images,
            layer=self.asked.layer,
            start=self.asked.start,
            solver=usual_inversion(self.priors, self.model.shape[1:], self.asked.steps),
            priors=self.priors,
            seed=self.asked.seed,
        )
        near = ssim(made.x, self.images)
        head = "Inversion: images of the same representation, and what the model takes them for"
        self._row("image", self.images, head, self._taken_for(self.images))
        self._row("same to the model", made.x, "", self._taken_for(made.x))
        self.found["inverted"] = made.x
        self.numbers["inversion"] = {
            "priors": list(self.priors.names),
            "relative_error": made.relative_error.tolist(),
            "ssim": near.tolist(),
            "distance": made.distance.tolist(),
        }
        self.lines.append(
            f"Inversion: relative error {_mean(made.relative_error)} "
            f"(start {_mean(made.start_error)}), SSIM to the image {_mean(near)}."
        )

    def interpolate(self) -> None:
        pairs = len(self.images) // 2
        first, last = self.images[0::2], self.images[1::2]
        made = interpolate(
            self.model,
            first,
            last,
            points=self.asked.points,
            layer=self.asked.layer,
            solver=quick_inversion(self.asked.steps),
            seed=self.asked.seed,
        )
        for i in range(pairs):
            head = "Interpolation: mixed pixels, and through the representation"
            for name, frames in (
                ("pixels", made.plain.frames[i]),
                ("representation", made.through.frames[i]),
            ):
                first_of_all = head if name == "pixels" and not i else ""
                self._row(name, frames, first_of_all, self._taken_for(frames))
        self.found["interpolated"] = made.through.frames
        uneven = made.through.representation_unevenness
        self.numbers["interpolation"] = {
            "relative_error": made.relative_error.tolist(),
            "representation_unevenness": uneven.tolist(),
            "of_mixed_pixels": made.plain.representation_unevenness.tolist(),
        }
        self.lines.append(
            f"Interpolation: longest step over the mean one {_mean(uneven)} in the "
            f"representation; of mixed pixels {_mean(made.plain.representation_unevenness)}."
        )

    def visualise(self) -> None:
        chosen, real = self.units, self._real()
        made = visualise(
            self.model,
            chosen,
            layer=self.asked.layer,
            start=self.asked.start,
            solver=usual_visualisation(self.priors, self.model.shape[1:], self.asked.steps),
            priors=self.priors,
            seed=self.asked.seed,
        )
        near = most_activating(self.model, real, chosen, layer=self.asked.layer, count=1)
        for places in torch.arange(len(chosen)).split(MOST_UNITS):
            said = self._taken_for(made.x[places])
            named = [
                f"{self._unit(chosen[i])}: {s}" for i, s in zip(places.tolist(), said, strict=True)
            ]
            layer = self.asked.layer or "the embedding"
            head = f"Units of {layer}, each with what the model takes the image made for it for"
            self._row("made for the unit", made.x[places], head, named)
            self._row("most active image", real[near.highest[places, 0]])
            self._row("least active image", real[near.lowest[places, 0]])
        self.found["visualised"] = made.x
        high = 100 * high_frequency_share(made.x)
        self.numbers["visualisation"] = {
            "priors": list(self.priors.names),
            "units": chosen,
            "activation": made.activation.tolist(),
            "of_best_image": near.highest_values[:, 0].tolist(),
            "high_frequencies": high.tolist(),
        }
        silent = int((made.activation <= made.before).sum())
        note = f" {silent} of them did not move from the start." if silent else ""
        self.lines.append(
            f"Visualisation: activation {_mean(made.activation)}, of the best test images "
            f"{_mean(near.highest_values[:, 0])}; {float(high.mean()):.0f} % of the energy "
            f"in high frequencies.{note}"
        )

    def manipulate(self) -> None:
        unit, more = self.unit, self.strength
        columns = [self.images]
        numbers: dict[str, Any] = {"unit": unit, "unit_of_strength": more, "strengths": {}}
        for strength in STRENGTHS:
            made = add_feature(
                self.model,
                self.images,
                unit,
                strength * more,
                layer=self.asked.layer,
                solver=quick_inversion(self.asked.steps),
                seed=self.asked.seed,
            )
            columns.append(made.x)
            numbers["strengths"][f"{strength:+g}"] = {
                "wanted": made.wanted.tolist(),
                "after": made.after.tolist(),
                "distance": made.distance.tolist(),
            }
        shown = ", ".join(f"{s:+g}" for s in STRENGTHS)
        toward = "" if self.asked.toward is None else f" towards class {self.asked.toward}"
        head = f"Manipulation of unit {unit}{toward}: the image, then {shown} times {more:.3g}"
        strengths = ("as it is", *(f"{s:+g}" for s in STRENGTHS))
        for i in range(len(self.images)):
            row = torch.stack([c[i] for c in columns])
            taken = [f"{s}: {c}" for s, c in zip(strengths, self._taken_for(row), strict=True)]
            self._row(self._names()[i], row, "" if i else head, taken)
        self.found["manipulated"] = torch.stack(columns[1:], dim=1)
        self.numbers["manipulation"] = numbers
        self.lines.append(f"Manipulation: unit {unit}, strengths in units of {more:.3g}.")

    def _real(self) -> Tensor:
        """Test images among which the most active ones are looked for."""
        some = torch.arange(min(len(self.test), 1000))
        return self.test.pixels(some).to(self.model.device)

    def _feature(self, width: int) -> tuple[int, float]:
        """The unit, and the rise that counts as 1: the difference of groups, or half the range."""
        layer = self.asked.layer
        if self.asked.unit is not None:
            check_units(torch.tensor([self.asked.unit]), width)
            real = self._real()
            seen = most_activating(self.model, real, [self.asked.unit], layer=layer, count=1)
            reach = float(seen.highest_values[0, 0] - seen.lowest_values[0, 0])
            return self.asked.unit, reach / 2 or 1.0
        known = images_for("train", self.facts, self.asked.data, self.asked.data_dir, None, 4000)
        wanted = self.asked.toward
        if wanted is None or not 0 <= wanted < known.classes:
            raise bad_value("--toward", f"lie in 0..{known.classes - 1}", wanted)
        x, there = known.pixels().to(self.model.device), known.labels == wanted
        found = find_attribute(self.model, x[there], x[~there], layer=layer)
        return found.unit, float(found.difference[found.unit])

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
        """The names of the classes that the model gives to images [k, c, h, w]."""
        with frozen(self.model), torch.no_grad():
            said = self.model(images.to(self.model.device)).argmax(dim=1)
        return [self.test.class_names[label] for label in said.tolist()]

    def _unit(self, unit: int) -> str:
        """A unit's number; of the logits the class that it stands for."""
        of_class = self.asked.layer == "logits" and unit < len(self.test.class_names)
        return self.test.class_names[unit] if of_class else str(unit)

    def _row(self, name: str, images: Tensor, head: str = "", captions: Sequence[str] = ()) -> None:
        from notbugs.report.figures.looks import PictureRow

        pictures = list(images.detach().cpu().numpy())
        self.rows.append(PictureRow(name, pictures, head, captions))


def _of_kind(path: Path, kind: type[Any], flag: str, model: Classifier) -> Any:
    found = load_prior(path)
    if not isinstance(found, kind):
        raise bad_value(flag, f"name a {flag[2:]}'s file", f"'{path}', which is another net")
    if tuple(found.shape) != tuple(model.shape):
        raise bad_value(
            flag,
            f"be made for images of shape {tuple(model.shape)}, as the model is",
            f"shape {tuple(found.shape)}",
        )
    return found


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdigit()


def _mean(values: Tensor) -> str:
    return f"{float(values.mean()):.3g}"
