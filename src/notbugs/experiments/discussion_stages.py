"""Stages of the discussion of Ilyas et al.: bands, bugs, poison, mistakes, foreign labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from notbugs.analysis import band_pass, fourier_heat_map
from notbugs.attacks.latent import CodeDistance
from notbugs.attacks.losses import Targeted, column, cross_entropy
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Labels, RowTree
from notbugs.data import ImageData, load_source
from notbugs.engine import (
    APGD,
    AbstractObjective,
    Draw,
    Evaluation,
    Last,
    LowestValue,
    Solver,
    Steepest,
    Threat,
    UniformIn,
)
from notbugs.experiments.constructed import Constructed
from notbugs.experiments.experiment import Measurement, Measurements, Work, save_pictures
from notbugs.experiments.first_order import named_by
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.shared import Data, Trained
from notbugs.features import noise_images
from notbugs.features.build import only_reached
from notbugs.features.size import to_size
from notbugs.judge import accuracy, predictions
from notbugs.models import frozen
from notbugs.representations.reading import layer_of

BATCH = 256
SQUARE_EPS = (0.01, 0.1, 0.8)
"""Linf sizes at which `Squares` attacks."""


def filtered(data: ImageData, low: float, high: float) -> ImageData:
    """A set with the frequencies in [low, high) alone, around mid grey where the mean is gone."""
    ground = 0.5 if low else 0.0
    images = (ground + band_pass(data.pixels(), low, high)).clamp(0, 1)
    return replace(data, images=images, name=f"{data.name}, {low:g} to {high:g}")


@dataclass(frozen=True)
class Filtered(Constructed):
    """The training images with frequencies of at least `cutoff` alone (`high`), or below it."""

    data: Data
    cutoff: float
    high: bool

    @property
    def title(self) -> str:
        return f"{'high' if self.high else 'low'} pass {self.cutoff:g}"

    def build(self, train: ImageData, work: Work) -> ImageData:
        return filtered(train, *self.band)

    @property
    def band(self) -> tuple[float, float]:
        """The frequencies that are kept, cycles a pixel."""
        return (self.cutoff, 9.0) if self.high else (0.0, self.cutoff)


@dataclass(frozen=True)
class OnFiltered(Measurement):
    """Accuracies of a model on test images in the band of its training, and on whole ones."""

    model: Trained
    on: Filtered

    def measure(self, work: Work) -> Columns:
        net, test = work.load(self.model), self.model.data.splits(work).test
        same = filtered(test, *self.on.band)
        return {"in_band": accuracy(net, same), "clean": accuracy(net, test)}


@dataclass(frozen=True)
class HeatMap(Measurements):
    """Errors of a model under waves of each frequency, of one L2 size: `fourier_heat_map`.

    Its picture has frequency 0 in the middle; white is an error of 100 %.

    **Source**: Yin et al. 2019 (arXiv 1906.08988), section 4.
    """

    name: str
    model: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Tables:
        test = self.model.data.splits(work).test.select(slice(0, self.count))
        net, seed = work.load(self.model), self.model.data.seed
        heat, length = fourier_heat_map(net, test, self.eps, seed=seed)
        picture = torch.fft.fftshift(heat)[None, None].float() / 100
        save_pictures({f"heat.{self.name}": picture}, work)
        low, high = (float(heat[of].mean()) for of in (length < 0.25, length >= 0.25))
        row = {"low": low, "high": high, "high_lost": high - (100 - accuracy(net, test))}
        return {"waves": {self.name: row}}


@final
@dataclass(frozen=True)
class Kept(AbstractObjective):
    """Minimise the cross-entropy at `y` of the context: the class is to stay."""

    logits: Callable[[Images], Tensor]

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        return Evaluation(cross_entropy(self.logits(x), column(context, "y")))


@dataclass(frozen=True)
class Bugs(Constructed):
    """Images that a source takes for the next class and an ensemble still has right; labelled so.

    x' = argmin over the threat of CE(source, t) + the mean over the ensemble of CE(f_i, y), t the
    class after y: adversarial examples that do not transfer. Every change is brought to size eps.

    **Source**: Nakkiran 2019, "Adversarial examples are just bugs, too" (Distill).
    """

    source: Trained
    ensemble: tuple[Trained, ...]
    threat: Threat
    steps: int

    @property
    def title(self) -> str:
        return "just bugs"

    @property
    def cost(self) -> float:
        passes = 3.0 * (1 + len(self.ensemble)) * self.steps
        return passes * (self.source.data.train_size or 1400)

    def build(self, train: ImageData, work: Work) -> ImageData:
        x_adv, t = self.pushed(train, work)
        sized = to_size(train.pixels(), x_adv, self.threat.as_norm("bugs"), self.threat.eps)
        columns = {
            "true_labels": train.labels,
            "source_rows": torch.arange(len(train)),
            "distance": sized.distance,
        }
        made = replace(
            train, images=sized.x, labels=t, columns=columns, name="bugs",
            provenance={"recipe": "bugs", "eps": self.threat.eps},
        )  # fmt: skip
        return only_reached(made, sized.reached, self.threat)

    def pushed(self, data: ImageData, work: Work) -> tuple[Images, Labels]:
        """(the changed images of a set, the classes that they are to be taken for)."""
        source, others = work.load(self.source), [work.load(one) for one in self.ensemble]
        objective: AbstractObjective = Targeted(source.logits)
        for other in others:
            objective = objective + (1 / len(others)) * Kept(other.logits)
        norm = self.threat.as_norm("bugs")
        keys = random.row_keys(len(data), self.source.data.seed, "bugs")
        rule = Steepest(norm, 2.5 * self.threat.eps / self.steps)
        solver = Solver(self.threat.within(), rule, self.steps, keep=Last())
        t = (data.labels + 1) % data.classes
        parts: list[Images] = []
        for i in torch.arange(len(data)).split(BATCH):
            x = data.pixels(i).to(source.device)
            labels = {"targets": t[i].to(x.device), "y": data.labels[i].to(x.device)}
            found = solver.minimise(objective, x, labels, keys=keys[i].to(x.device))
            parts.append(found.x.cpu())
            work.progress(float(i[-1] + 1) / len(data))
        return torch.cat(parts), t


@dataclass(frozen=True)
class BugTransfer(Measurement):
    """How many test images fool the source, and another net that no attack has seen, in percent.

    "fooled": taken for the next class by the source; "transfer": by the other net; both of the
    images that both have right. "kept": those of them that every net of the ensemble has right, of
    those that it had.
    """

    bugs: Bugs
    fresh: Trained

    def measure(self, work: Work) -> Columns:
        test = self.bugs.source.data.splits(work).test
        x_adv, t = self.bugs.pushed(test, work)
        nets = [work.load(net) for net in (self.bugs.source, self.fresh)]
        right = [named_by(net, test.pixels()) == test.labels for net in nets]
        both = right[0] & right[1]
        named = [percent((named_by(net, x_adv) == t)[both]) for net in nets]
        before, after = both, both
        for member in map(work.load, self.bugs.ensemble):
            before = before & (named_by(member, test.pixels()) == test.labels)
            after = after & (named_by(member, x_adv) == test.labels)
        kept = percent(after[before]) if self.bugs.ensemble else None
        return {"fooled": named[0], "transfer": named[1], "kept": kept}


@dataclass(frozen=True)
class TrueLabels(Constructed):
    """A targeted set with the true labels of its images: poison that no label gives away.

    **Source**: Nakkiran 2019, the same comment: perturbations towards the next class.
    """

    on: Constructed

    @property
    def title(self) -> str:
        return "poison"

    def build(self, train: ImageData, work: Work) -> ImageData:
        made = work.load(self.on)
        return made.with_labels(made.columns["true_labels"])


@dataclass(frozen=True)
class Before(Measurement):
    """How often a model says a class for test images of the next one, in percent."""

    model: Trained

    def measure(self, work: Work) -> Columns:
        test = self.model.data.splits(work).test
        return {"before": accuracy(work.load(self.model), test, (test.labels - 1) % test.classes)}


@dataclass(frozen=True)
class Mistakes(Constructed):
    """The training images that a model has wrong, labelled as it takes them: no label is true.

    - `shuffled`: wrong labels that are drawn in their place: a control

    **Source**: Wallace 2019, "Learning from incorrectly labeled data" (Distill).
    """

    model: Trained
    shuffled: bool = False

    @property
    def title(self) -> str:
        return "mistakes" + "/shuffled" * self.shuffled

    def build(self, train: ImageData, work: Work) -> ImageData:
        named = predictions(work.load(self.model), train)
        if not bool((named != train.labels).any()):
            raise bad_value("few", "leave the model some mistakes", "none", "Train it for less.")
        wrong = train.select((named != train.labels).nonzero()[:, 0])
        labels = named[named != train.labels]
        if self.shuffled:
            keys = random.row_keys(len(wrong), self.model.data.seed, "mistakes")
            labels = (wrong.labels + 1 + random.integers(keys, train.classes - 1)) % train.classes
        columns = {"true_labels": wrong.labels}
        return replace(wrong.with_labels(labels), columns=columns, name=self.title)


@dataclass(frozen=True)
class Foreign(Constructed):
    """Images that are none of a model's own data, labelled as it takes them.

    - `shuffled`: its labels, each to another of the images: a control
    - `other`: the dataset whose first training images these are; "": uniform noise

    **Source**: Wallace 2019, the same comment: images of Fashion-MNIST, a model of MNIST.
    """

    model: Trained
    shuffled: bool = False
    other: str = ""

    @property
    def title(self) -> str:
        return (self.other or "noise") + "/shuffled" * self.shuffled

    def build(self, train: ImageData, work: Work) -> ImageData:
        x = self.images(train, work)
        labels = named_by(work.load(self.model), x)
        if self.shuffled:
            generator = random.generator(self.model.data.seed, "foreign")
            labels = labels[torch.randperm(len(labels), generator=generator)]
        return replace(train, images=x, labels=labels, columns={}, name=self.title)

    def images(self, train: ImageData, work: Work) -> Images:
        """As many as `train` has at most, of its shape."""
        if not self.other:
            seed = random.seed_of(self.model.data.seed, "foreign")
            return noise_images(train, seed=seed).pixels()
        found = load_source(self.other, work.data_dir).train
        if found.shape != train.shape:
            raise bad_value(
                "other",
                f"be a set of images {train.shape}",
                f"'{self.other}', of {found.shape}",
                'Name another, or "" for noise alone.',
            )
        return found.pixels(slice(0, len(train)))


@dataclass(frozen=True)
class Layers(Measurements):
    """R(f) of layers: how far an attack moves a reading, over how far readings of images lie apart.

    R(f) = E max ||f(x') - f(x)|| / E ||f(x1) - f(x2)||, the maximum over the threat; 1 moves an
    image's reading as far as to another image's.

    **Source**: Nakano 2019, "Adversarially robust neural style transfer" (Distill).
    """

    name: str
    model: Trained
    layers: tuple[str, ...]
    threat: Threat
    steps: int
    count: int

    def measure(self, work: Work) -> Tables:
        model, data = work.load(self.model), self.model.data
        x = data.splits(work).test.pixels(slice(0, self.count)).to(work.device)
        norm = self.threat.as_norm("R(f)")
        rule = APGD(norm, self.threat.eps)
        solver = Solver(self.threat.within(), rule, self.steps, keep=LowestValue())
        row: dict[str, float | None] = {}
        with frozen(model):
            for layer in self.layers:
                read = layer_of(model, None if layer == "embedding" else layer)
                with torch.no_grad():
                    clean = read(x).flatten(1)
                keys = random.row_keys(len(x), data.seed, "layers").to(x.device)
                away = -1.0 * CodeDistance(read)
                found = solver.minimise(away, x, {"code": clean}, keys=keys, start=UniformIn())
                apart = torch.pdist(clean.double().cpu()).mean()
                row[f"moved_{layer}"] = float(-found.value.mean()) / float(apart)
        return {"layers": {self.name: row}}


@dataclass(frozen=True)
class Squares(Measurements):
    """A linear classifier that fits wrong labels, of points that tell two classes apart easily.

    Points of `dimensions` entries y + U[-0.1, 0.1], y = +-1; of their labels `flipped` are turned.
    The sum of the entries is right up to changes of 0.9 in all of them. "all labels fitted": the
    weights of least length that give every point its label; "one step": of gradient descent from
    zero; "no wrong labels": as the first, on y. "flips": percent of the right test points that
    changes of a size in Linf turn, exactly; "right": of test points; "fitted": of the labels.

    **Source**: Nakkiran 2019, the same comment, "squares".
    **Differs from the source**: the comment overfits a net of two layers; with more dimensions than
    points a linear classifier can fit any labels too, and its worst case is exact.
    """

    seed: int
    dimensions: int = 1000
    points: int = 300
    flipped: float = 0.1
    eps: tuple[float, ...] = SQUARE_EPS

    def measure(self, work: Work) -> Tables:
        drawn = random.generator(self.seed, "squares")
        (x, y), (test_x, test_y) = self.draw(drawn), self.draw(drawn)
        labels = torch.where(torch.rand(len(y), generator=drawn) < self.flipped, -y, y)
        fitting = torch.linalg.pinv(x)
        table: dict[str, Columns] = {}
        for name, w, on in (
            ("all labels fitted", fitting @ labels, labels),
            ("one step", x.T @ labels, labels),
            ("no wrong labels", fitting @ y, y),
        ):
            margin, reach = (test_x @ w) * test_y, w.abs().sum()
            right = margin > 0
            table[name] = {
                "fitted": percent((x @ w) * on > 0),
                "right": percent(right),
                **{f"flips_{e:g}": percent((margin < e * reach)[right]) for e in self.eps},
            }
        return {"squares": table}

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points and their classes, +1 or -1."""
        y = torch.rand(self.points, generator=generator).double().sub(0.5).sign()
        noise = torch.rand(self.points, self.dimensions, generator=generator).double()
        return y[:, None] + 0.2 * noise - 0.1, y
