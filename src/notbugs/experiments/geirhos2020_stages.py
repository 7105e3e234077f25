"""Stages of shortcut learning: stars and moons, planted shortcuts, shape against texture."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from notbugs.analysis.cue_conflict import (
    CONFLICTS,
    cue_conflict,
    partners,
    shape_bias,
    silhouettes,
    textures,
)
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.types import Images
from notbugs.data import ImageData, Splits, StarsAndMoons
from notbugs.data.planted import pointed_to
from notbugs.experiments.data_views import each_part
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Work,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.shared import Data, Trained
from notbugs.features.shortcuts import KINDS, Shortcut, halved
from notbugs.judge import accuracy, predictions

SHOWN = 10
HELD_OUT = 0.1


@dataclass(frozen=True)
class Sky(Data):
    """Stars and moons, drawn by the seed: `train_size` of them, a tenth of it to validate.

    - `places`: of the shapes in training
    """

    places: str = "shortcut"
    side: int = 24

    def splits(self, work: Work) -> Splits:
        assert self.train_size is not None
        train = self.drawn_at(self.places, "train", self.train_size)
        val = self.drawn_at(self.places, "val", max(2, round(HELD_OUT * self.train_size)))
        return Splits(train, val, self.tests("shortcut"))

    def tests(self, places: str) -> ImageData:
        """Fresh images with the shapes at other places."""
        assert self.test_size is not None
        return self.drawn_at(places, "test", self.test_size)

    def drawn_at(self, places: str, part: str, n: int) -> ImageData:
        """Images of a part, of which none is in another part."""
        seed = random.seed_of(self.seed, "stars and moons", part)
        return StarsAndMoons(n, places, self.side, seed).make()


@dataclass(frozen=True)
class AmongStars(Measurement):
    """Accuracies of a net on stars and moons where they stood in training, and elsewhere."""

    model: Trained

    def measure(self, work: Work) -> Columns:
        net, sky = work.load(self.model), self.model.data
        assert isinstance(sky, Sky)
        places = {"iid": "shortcut", "ood": "exchanged", "anywhere": "random"}
        return {name: accuracy(net, sky.tests(of)) for name, of in places.items()}


@dataclass(frozen=True)
class Marked(Data):
    """Images of halved contrast with a mark that tells the label of a share of them.

    - `shortcut`: the marks; None: halved contrast alone
    - `agreement`: the share of images whose mark is that of their label; the others have that of
      another class. Test images have the mark of their label.
    """

    shortcut: Shortcut | None = None
    agreement: float = 1.0

    def splits(self, work: Work) -> Splits:
        parts, shortcut = super().splits(work), self.shortcut
        if shortcut is None:
            return each_part(parts, _halved)
        train, val = (
            marked(part, shortcut, self.agreement, self.seed, name)
            for name, part in (("train", parts.train), ("val", parts.val))
        )
        return Splits(train, val, marked(parts.test, shortcut, 1.0, self.seed, "test"))

    def plain(self, work: Work) -> ImageData:
        """The test images of halved contrast without a mark."""
        return _halved(super().splits(work).test)

    def original(self, work: Work) -> ImageData:
        """The test images as they were."""
        return super().splits(work).test


def _halved(data: ImageData) -> ImageData:
    return replace(data, images=halved(data.pixels()))


def marked(
    data: ImageData, shortcut: Shortcut, agreement: float, seed: int, part: str
) -> ImageData:
    """Images with the mark of their label in a share of cases, else that of another class."""
    keys = random.row_keys(len(data), seed, "pointed", part)
    pointed = pointed_to(data.labels, keys, classes=data.classes, agreement=agreement)
    return shortcut.planted(data, pointed)


@dataclass(frozen=True)
class Dependence(Measurement):
    """What a net does with a shortcut: accuracies where it agrees, disagrees, and is not there.

    "followed": of images whose mark is that of another class, those answered with that class;
    "moved": the mean L2 norm of what the marks changed.
    """

    model: Trained
    shortcut: Shortcut

    def measure(self, work: Work) -> Columns:
        net, data = work.load(self.model), self.model.data
        assert isinstance(data, Marked)
        original = data.original(work)
        agrees, misleads = (
            marked(original, self.shortcut, share, data.seed, "test") for share in (1.0, 0.0)
        )
        followed = predictions(net, misleads) == misleads.columns["pointed"]
        return {
            "iid": accuracy(net, agrees),
            "ood": accuracy(net, misleads),
            "without": accuracy(net, data.plain(work)),
            "followed": percent(followed),
            "moved": float(misleads.columns["distance"].mean()),
            "chance": 100 / data.plain(work).classes,
        }


@dataclass(frozen=True)
class Cues:
    """How images with a shape and a texture are made.

    - `count`: of test images, the first, that give the shapes; `patch`: pixels a side, of textures
    """

    count: int
    patch: int

    def joined(self, test: ImageData, kind: str, seed: int, *, same: bool) -> tuple[Images, Tensor]:
        """Images of two cues, of the same class or not, and the class of their textures."""
        some = test.select(slice(0, self.count))
        x, keys = some.pixels(), random.row_keys(len(some), seed, "cues", same)
        other = partners(some.labels, random.fold(keys, "partner"), same=same)
        made = cue_conflict(x, x[other], kind, keys=keys, patch=self.patch)
        return made, some.labels[other]


@dataclass(frozen=True)
class ShapeBias(Measurements):
    """Whether a net follows shape or texture where they disagree, and how well it does elsewhere.

    - `name`: of the rows; `trained`: False for the net at its start, which guesses
    """

    name: str
    model: Trained
    cues: Cues
    trained: bool = True

    def measure(self, work: Work) -> Tables:
        net = work.load(self.model) if self.trained else self.model.untrained(work)
        test, seed = self.model.data.splits(work).test, self.model.data.seed
        some, rows = test.select(slice(0, self.cues.count)), dict[str, Columns]()
        for kind in CONFLICTS:
            images, textured = self.cues.joined(test, kind, seed, same=False)
            answers = shape_bias(
                predictions(net, replace(some, images=images)), some.labels, textured
            )
            agreeing = replace(some, images=self.cues.joined(test, kind, seed, same=True)[0])
            rows[f"{self.name}, {kind}"] = {
                "shape": answers.shape,
                "texture": answers.texture,
                "either": answers.either,
                "bias": answers.bias,
                "agreeing": accuracy(net, agreeing),
            }
        x, keys = some.pixels(), random.row_keys(len(some), seed, "alone")
        alone = {"silhouettes": silhouettes(x), "alone": textures(x, keys, patch=self.cues.patch)}
        row = {of: accuracy(net, replace(some, images=made)) for of, made in alone.items()}
        return {"cues": rows, "single": {self.name: {"clean": accuracy(net, some), **row}}}


@dataclass(frozen=True)
class StarPictures(Illustration):
    """The first test images of stars and moons at each of the places."""

    sky: Sky

    def draw(self, work: Work) -> Pictures:
        places = ("shortcut", "exchanged", "random")
        return {f"sky.{of}": self.sky.tests(of).pixels(slice(0, SHOWN)) for of in places}


@dataclass(frozen=True)
class MarkPictures(Illustration):
    """One test image with the mark of each class, for each kind."""

    data: Data
    norm: float

    def draw(self, work: Work) -> Pictures:
        test, drawn = self.data.splits(work).test, dict[str, Tensor]()
        classes = torch.arange(min(test.classes, SHOWN))
        first = test.select(torch.zeros(len(classes), dtype=torch.int64))
        for kind in KINDS:
            drawn[f"marks.{kind}"] = Shortcut(kind, self.norm).planted(first, classes).pixels()
        return drawn


@dataclass(frozen=True)
class CuePictures(Illustration):
    """Images that give shapes, and textures, and what is made of them."""

    data: Data
    cues: Cues

    def draw(self, work: Work) -> Pictures:
        test, seed = self.data.splits(work).test, self.data.seed
        some = test.select(slice(0, self.cues.count))
        x, keys = some.pixels(), random.row_keys(len(some), seed, "cues", False)
        other = partners(some.labels, random.fold(keys, "partner"), same=False)
        made = {kind: self.cues.joined(test, kind, seed, same=False)[0] for kind in CONFLICTS}
        rows = {"of_shape": x, "of_texture": x[other], **made, "silhouettes": silhouettes(x)}
        rows["textures"] = textures(x[other], keys, patch=self.cues.patch)
        return {f"cues.{name}": images[:SHOWN].contiguous() for name, images in rows.items()}
