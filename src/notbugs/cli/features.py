"""`notbugs features`: how useful the features of a model or a dataset are, and which break."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich.console import Console
from rich.table import Table

from notbugs.cli.common import device_of
from notbugs.cli.kinds import PICTURE, USEFULNESS
from notbugs.cli.outputs import Output, check_outputs, write_numbers
from notbugs.cli.progress import bar
from notbugs.cli.subject import OfModel, Subject
from notbugs.core.errors import bad_value, check_count
from notbugs.data import SOURCES, ImageData
from notbugs.data.files import SUFFIX
from notbugs.data.sources.load import FOLDER
from notbugs.data.writing import write_file
from notbugs.engine import Threat
from notbugs.features import (
    Features,
    Usefulness,
    cosine_features,
    features_of,
    kernel_features,
    pixel_features,
    usefulness,
)
from notbugs.judge import check_fits
from notbugs.zoo import is_address

LISTED = 8
"""Features in the table on the terminal."""
BOUNDS = {
    "exact": "exact",
    "lower": "a lower bound, against every adversary",
    "upper": "an upper bound, by the attack that was tried",
}
"""What gamma is."""
ROBUST = {"exact": "robust", "lower": "certified robust", "upper": "robust to this attack"}
"""What a feature is whose gamma is above 0."""
MANY = 300
"""Features that take minutes to attack one by one."""


@dataclass(frozen=True)
class FeaturesCommand:
    """Place every feature on the plane of usefulness (rho) and what an adversary leaves (gamma).

    A feature has mean 0 and variance 1 on training images. rho is its mean over images of a class
    less that over the others, halved; gamma the same where each image is changed against it, within
    the threat. Beyond their 95 % intervals it is useful where rho > 0; and then robust where
    gamma > 0, non-robust where gamma < 0.

    Of a model the units of a layer, or its principal components; of a dataset the pixels, their
    components, cosines, or the eigenfeatures of a wide net's kernel. Each is judged for the class
    that it is most useful for on training images. Writes a picture, and all numbers with --json.

    Try:
      notbugs features model.safetensors --threat l2:0.5
      notbugs features model.safetensors --layer logits
      notbugs features model.safetensors --threat linf:0.01 --certify
      notbugs features digits --cosines --threat l2:0.5 --json cosines.json
    """

    draws: ClassVar[bool] = True

    subject: Annotated[str, tyro.conf.Positional]
    """Weights (.safetensors, or the folder that train wrote), or the name of a dataset."""
    threat: str = "l2:0.5"
    """The adversary, as norm:radius."""
    layer: str | None = None
    """Of a model: a layer by its dotted name, or "logits"; the embedding without it."""
    components: int | None = None
    """So many principal components in place of units or pixels; with --kernel eigenfeatures, 30."""
    cosines: bool = False
    """Of a dataset: the waves of the discrete cosine transform, linear like pixels."""
    kernel: bool = False
    """Of a dataset: eigenfeatures of the tangent kernel of an infinitely wide net."""
    count: int = 200
    """Test images that features are judged on, the first ones."""
    steps: int = 20
    """Steps of PGD on each feature that is not linear."""
    certify: bool = False
    """Of a model of ReLUs and affine layers: bound gamma from below instead of attacking. The
    bounds say something at small radii alone, such as L2 0.1 for digits."""
    out: Path = Path("features.png")
    """The picture, a .png file."""
    json: Path | None = None
    """Write the numbers of every feature to this file."""
    overwrite: bool = False
    """Replace files of those names that notbugs did not write."""
    seed: int = 0
    """Seed of the attacks' random starts."""
    given: OfModel = Subject()

    @property
    def of_model(self) -> bool:
        """Whether the subject is weights, not a dataset: a folder of a dataset's name is none."""
        named = self.subject in SOURCES or self.subject.startswith(FOLDER)
        is_file = self.subject.endswith(SUFFIX) or Path(self.subject).exists()
        return not named and (is_file or is_address(self.subject))

    def run(self, console: Console) -> None:
        """Measures, draws and prints."""
        self._check()
        features, train, test = self._features()
        if len(features) > MANY and not (features.linear or self.certify):
            console.print(
                f"{len(features):,} features are attacked one by one, on {len(test)} images each. "
                "Quicker: --components 30, a smaller --count, or fewer --steps."
            )
        with bar(console, "Features") as progress:
            found = usefulness(
                features,
                train,
                test,
                Threat.parse(self.threat),
                steps=self.steps,
                certify=self.certify,
                seed=self.seed,
                progress=progress,
            )
        points = _points(found, train)
        self._draw(points, found.bound)
        console.print(
            f"{len(points)} features, {len(test)} test images, {self.threat}: "
            f"gamma is {BOUNDS[found.bound]}."
        )
        constant = sorted({*range(int(found.numbers.max()) + 1)} - {*found.numbers.tolist()})
        if constant:
            console.print(f"Left out, for they do not vary: {', '.join(map(str, constant))}.")
        console.print(_table(points, found.bound))
        kinds = [point["kind"] for point in points]
        console.print(
            f"Useful beyond the interval: {len(kinds) - kinds.count('useless')}; of these "
            f"{ROBUST[found.bound]} {kinds.count('robust')}, non-robust "
            f"{kinds.count('non-robust')}, not decided {kinds.count('undecided')}."
        )
        if found.bound == "lower" and "robust" not in kinds:
            console.print("The bounds are too loose to certify any: try a smaller radius.")
        console.print(f"Picture: {self.out}", soft_wrap=True)
        if self.json is not None:
            write_numbers(
                self.json,
                {
                    "subject": self.subject,
                    "layer": self.layer,
                    "threat": self.threat,
                    "count": len(test),
                    "seed": self.seed,
                    "bound": found.bound,
                    "features": points,
                },
            )
            console.print(f"Numbers: {self.json}", soft_wrap=True)

    def _check(self) -> None:
        """Validates the options before any work."""
        Threat.parse(self.threat).as_norm("features")
        check_count(self.count, "--count")
        check_count(self.steps, "--steps")
        if self.components is not None:
            check_count(self.components, "--components")
        of_data, of_model = "It is for datasets.", "It is for models."
        both = self.kernel or bool(self.components)
        idle = (
            ("--cosines", self.cosines and self.of_model, of_data),
            ("--cosines", self.cosines and both, "Leave out --kernel and --components."),
            ("--kernel", self.kernel and self.of_model, of_data),
            (
                "--certify",
                self.certify and not self.of_model,
                "Gamma of pixels and cosines is exact without; of a kernel there are no bounds.",
            ),
            ("--layer", self.layer is not None and not self.of_model, of_model),
            ("--data", self.given.data is not None and not self.of_model, of_model),
            ("--model", self.given.model is not None and not self.of_model, of_model),
            (
                "--embedding",
                self.given.embedding is not None and self.given.model is None,
                "Give --model too.",
            ),
        )
        for flag, wrong, remedy in idle:
            if wrong:
                raise bad_value(flag, f"be left out for '{self.subject}'", "given", remedy)
        device_of(self.given.device)
        if self.out.suffix != ".png":
            raise bad_value("--out", "end in .png", f"'{self.out}'", "Add .png.")
        outputs = {"--out": Output(self.out, PICTURE)}
        if self.json is not None:
            outputs["--json"] = Output(self.json, USEFULNESS)
        inputs = self._given.inputs(Path(self.subject) if self.of_model else None)
        check_outputs(outputs, inputs, overwrite=self.overwrite)

    def _features(self) -> tuple[Features, ImageData, ImageData]:
        """The features, the images that they are standardised on, and those they are judged on."""
        if not self.of_model:
            train, test = self._images({})
            if self.cosines:
                return cosine_features(train), train, test
            if self.kernel:
                device = device_of(self.given.device)
                made = kernel_features(train, components=self.components or 30, device=device)
                return made, train, test
            return pixel_features(train, components=self.components), train, test
        model, facts = self.given.opened(Path(self.subject))
        train, test = self._images(facts)
        check_fits(model, train)
        made = features_of(model, train, layer=self.layer, components=self.components)
        return made, train, test

    @property
    def _given(self) -> Subject:
        """Of a dataset: it, in the place of one that weights would name."""
        return self.given if self.of_model else replace(self.given, data=self.subject)

    def _images(self, facts: dict[str, Any]) -> tuple[ImageData, ImageData]:
        parts = self._given.splits(facts)
        train, test = parts.train, parts.test.select(slice(0, self.count))
        missing = torch.bincount(test.labels, minlength=test.classes) == 0
        if bool(missing.any()):
            names = ", ".join(test.class_names[k] for k in missing.nonzero()[:, 0].tolist())
            raise bad_value(
                "--count", "leave test images of every class", f"{len(test)}, none of {names}",
                "Raise it.",
            )  # fmt: skip
        return train, test

    def _draw(self, points: list[dict[str, Any]], bound: str) -> None:
        from notbugs.experiments.numbers import Numbers
        from notbugs.experiments.page import Column, Scatter
        from notbugs.report.figures import LIGHT, png
        from notbugs.report.figures.kinds import Drawn, draw
        from notbugs.report.figures.style import LABEL

        names = {"robust": ROBUST[bound]}
        rows = {
            f"{names.get(point['kind'], point['kind'])} at {point['feature']}": {
                name: (float(point[name]),) for name in ("rho", "gamma")
            }
            for point in points
        }
        columns = {
            "rho": Column("rho, usefulness", ""),
            "gamma": Column(f"gamma under {self.threat}, {BOUNDS[bound].partition(',')[0]}", ""),
        }
        kinds = (ROBUST[bound], "non-robust", "undecided", "useless")
        figure = Scatter("points", "rho", "gamma", "", zero=True, kinds=kinds, apart="useless")
        made = draw(figure, Drawn(Numbers({"points": rows}), {}, columns), LIGHT)
        layer = f", {self.layer}" if self.layer else ""
        title = f"{len(points)} features of {Path(self.subject).name}{layer}"
        made.axes[0].set_title(title, color=LIGHT.ink, fontsize=LABEL)
        picture = png(made)
        write_file(self.out, lambda file: file.write(picture))


def _points(found: Usefulness, data: ImageData) -> list[dict[str, Any]]:
    """The numbers of each feature for the class that it is most useful for in training."""
    best = {name: column.tolist() for name, column in found.at_best().items()}
    points: list[dict[str, Any]] = []
    for i, number in enumerate(found.numbers.tolist()):
        kind = "undecided" if best["useful"][i] else "useless"
        kind = "robust" if best["robust"][i] else kind
        kind = "non-robust" if best["non_robust"][i] else kind
        numbers = {name: best[name][i] for name in ("rho", "gamma", "rho_error", "gamma_error")}
        name = data.class_names[best["class"][i]]
        points.append({"feature": number, "class": name, "kind": kind, **numbers})
    return points


def _table(points: list[dict[str, Any]], bound: str) -> Table:
    """The most useful features, beyond their intervals."""
    table = Table(title="The most useful features")
    for head in ("Feature", "Class", "rho", "gamma", "Kind"):
        table.add_column(head, justify="left" if head in ("Class", "Kind") else "right")
    useful = [point for point in points if point["kind"] != "useless"]
    for point in sorted(useful, key=lambda point: -point["rho"])[:LISTED]:
        rho, gamma = (f"{point[n]:.2f} ±{point[n + '_error']:.2f}" for n in ("rho", "gamma"))
        kind = ROBUST[bound] if point["kind"] == "robust" else point["kind"]
        table.add_row(str(point["feature"]), point["class"], rho, gamma, kind)
    return table
