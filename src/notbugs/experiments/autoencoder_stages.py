"""Stages about autoencoders: trained ones, sets made with them, and how far their codes move."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from notbugs.attacks import latent
from notbugs.attacks.latent import Encoder
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.experiments.constructed import Constructed, Pushes
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Stage,
    Work,
)
from notbugs.experiments.first_order import named_by
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column
from notbugs.experiments.readouts import linear_readout
from notbugs.experiments.shared import Data, Trained
from notbugs.features import choose_targets, encoded_set, features_of, usefulness
from notbugs.features.encoded import device_of, of_classes
from notbugs.features.size import along
from notbugs.judge import accuracy
from notbugs.models import Classifier, wrap
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.principal import PrincipalComponents
from notbugs.models.prior_files import load_prior, save_prior
from notbugs.training import principal_components, train_generator

KINDS = ("dense", "convolutional", "variational")
"""Autoencoders: of dense layers, of convolutions, and such a one that is variational."""
PRINCIPAL, PIXELS = "principal components", "pixels"
"""In their place: the linear one, and no encoder at all."""
FILE = "autoencoder.safetensors"
BATCH = 256
NOISE = 0.1
"""Of the decoder's pixels: less gives sharper images."""
MOVES = {
    "": ("", ""),
    "_random": (", random", "; a random change"),
    "_straight": (", straight", "; a step straight to the other image"),
}
"""The ends of columns: the attack, and other changes of the same size."""
COLUMNS = {
    "explained": Column("Explained", "of the pixels' variance, by reconstructions", unit="%"),
    "readout": Column("Readout", "right from the code alone, by a linear classifier", unit="%"),
    "kept": Column("Kept", "reconstructions that the judge has right", unit="%"),
    "pairs": Column("Pairs", "of images whose reconstructions the judge has right", 0),
    "eps": Column("L2", "size of the change", 2),
    "image": Column("Image", "the judge sees the other class in the image", unit="%"),
    "unchanged": Column("Own", "the judge sees the own class in it", unit="%"),
    "amplification": Column(
        "Amplification", "of a code's direction, standard deviations per L2 of pixels", 3
    ),
    "most": Column("Largest", "of the directions", 3),
    "rho": Column("rho", "usefulness of a direction for its best class", 3),
    "gamma": Column("gamma", "what an attack on it leaves", 3),
    "correlation": Column("Correlation", "of ranks, amplification and usefulness", 2),
} | {
    f"{name}{end}": Column(f"{title}{short}", f"{text}{how}", unit="%")
    for end, (short, how) in MOVES.items()
    for name, title, text in (
        ("closed", "Closed", "of the distance"),
        ("named", "Named", "the readout says the other class"),
        ("decoded", "Decoded", "the judge sees it in the reconstruction"),
    )
}
AutoencoderNet: TypeAlias = ImageGenerator | PrincipalComponents


class Pixels(nn.Module):
    """Images as their own codes."""

    def code(self, x: Images) -> Tensor:
        """The pixels, [n, d]."""
        return x.flatten(1)


class Codes(nn.Module):
    """The codes of an autoencoder, as a module."""

    def __init__(self, autoencoder: AutoencoderNet) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Images) -> Tensor:
        """The codes of images, [n, d]."""
        return self.autoencoder.code(x)


@dataclass(frozen=True)
class Autoencoder(Stage[AutoencoderNet]):
    """An autoencoder of the training images, which never sees a label.

    - `architecture`: one of `KINDS`, or `PRINCIPAL`
    - `codes`: numbers in a code; `trained`: False leaves it as it is before training
    """

    data: Data
    architecture: str
    codes: int
    epochs: int
    width: int
    trained: bool = True

    @property
    def label(self) -> str:
        return f"train {self.architecture} autoencoder · seed {self.data.seed}"

    @property
    def cost(self) -> float:
        return 3.0 * (self.data.train_size or 1400) * self.epochs * self.trained

    def make(self, work: Work) -> None:
        save_prior(self._made(self.data.train(work), work).cpu(), work.folder / FILE)

    def _made(self, train: ImageData, work: Work) -> AutoencoderNet:
        if self.architecture == PRINCIPAL:
            return principal_components(train, codes=self.codes)
        layers = "dense" if self.architecture == "dense" else "convolutional"
        seed = random.seed_of(self.data.seed, self.architecture)
        if not self.trained:
            net = ImageGenerator(
                train.shape, codes=self.codes, width=self.width, layers=layers, seed=seed
            )
            return net.eval()
        return train_generator(
            train,
            codes=self.codes,
            noise=NOISE,
            epochs=self.epochs,
            width=self.width,
            layers=layers,
            beta=float(self.architecture == "variational"),
            seed=seed,
            device=work.device,
            progress=work.progress,
        )

    def load(self, folder: Path, work: Work) -> AutoencoderNet:
        net = load_prior(folder / FILE).to(work.device)
        assert not isinstance(net, Denoiser)
        return net


def readout(net: AutoencoderNet, train: ImageData) -> Classifier:
    """A linear classifier of codes, fitted by logistic regression, on a frozen encoder."""
    head = linear_readout(coded(net, train), train.labels, train.classes).float()
    module = nn.Sequential(Codes(net), head.to(device_of(net.code)))
    return wrap(module.eval(), shape=train.shape, classes=train.classes, embedding="0")


@torch.no_grad()
def coded(net: AutoencoderNet, data: ImageData) -> Tensor:
    """The codes of a set's images, [n, d], on the processor."""
    device = device_of(net.code)
    parts = torch.arange(len(data)).split(BATCH)
    return torch.cat([net.code(data.pixels(rows).to(device)).cpu() for rows in parts])


@dataclass(frozen=True)
class Encoded(Constructed):
    """D_other by an encoder: see `notbugs.features.encoded_set`; None: by the pixels themselves."""

    data: Data
    encoder: Autoencoder | None
    threat: Threat
    steps: int

    @property
    def title(self) -> str:
        kind = PIXELS if self.encoder is None else self.encoder.architecture
        return f"D_other of {kind} ε={self.threat.eps:g}"

    @property
    def cost(self) -> float:
        return 3.0 * (self.data.train_size or 1400) * self.steps

    def build(self, train: ImageData, work: Work) -> ImageData:
        net = Pixels() if self.encoder is None else work.load(self.encoder)
        return encoded_set(
            net.code,
            train,
            self.threat,
            seed=random.seed_of(self.data.seed, "targets"),
            steps=self.steps,
            progress=work.progress,
        )


@dataclass(frozen=True)
class ByReadout(Constructed):
    """D_other of a linear readout of an encoder's codes, in the place of a classifier."""

    data: Data
    encoder: Autoencoder
    threat: Threat
    pushes: Pushes

    @property
    def title(self) -> str:
        return f"D_other of {self.encoder.architecture}, readout ε={self.threat.eps:g}"

    @property
    def cost(self) -> float:
        return 3.0 * (self.data.train_size or 1400) * self.pushes.steps

    def build(self, train: ImageData, work: Work) -> ImageData:
        model = readout(work.load(self.encoder), train)
        return self.pushes.pushed(model, train, "other", self.threat, self.data.seed, work)


@dataclass(frozen=True)
class Held(Measurement):
    """What codes hold of test images: pixels, and what linear and other classifiers need."""

    encoder: Autoencoder
    judge: Trained

    def measure(self, work: Work) -> Columns:
        net, parts = work.load(self.encoder), self.encoder.data.splits(work)
        x, train = parts.test.pixels().to(work.device), self.encoder.data.train(work)
        with torch.no_grad():
            again = net(x)
        spread = (x - train.pixels().mean(dim=0).to(x)).square().mean()
        kept = named_by(work.load(self.judge), again.clamp(0, 1)) == parts.test.labels.to(x.device)
        return {
            "explained": 100 * float(1 - (again - x).square().mean() / spread),
            "readout": accuracy(readout(net, train), parts.test),
            "kept": percent(kept),
        }


@dataclass(frozen=True)
class Moves(Measurement):
    """How far a change of one size moves codes, or reconstructions, towards another image's.

    Beside the attack (`latent`): a random change of the same size, and a step straight to the other
    image. On test images whose reconstruction the judge has right, as it has the other's.

    - `aim`: "code" or "reconstruction"; `count`: test images, the first

    **Source**: Kos et al. 2017 (arXiv 1702.06832), section 4.
    """

    encoder: Autoencoder
    judge: Trained
    aim: str
    threat: Threat
    steps: int
    count: int

    @property
    def cost(self) -> float:
        return 3.0 * self.count * self.steps

    def measure(self, work: Work) -> Columns:
        net, judge = work.load(self.encoder), work.load(self.judge)
        read = readout(net, self.encoder.data.train(work))
        x, z, y, t, noise = self.pairs(net, judge, work)
        columns: dict[str, float | None] = {"pairs": float(len(x)), "eps": self.threat.eps}
        if not len(x):
            return columns
        of = net.code if self.aim == "code" else net
        with torch.no_grad():
            goal = of(z)
            before = (of(x) - goal).flatten(1).norm(dim=1)
        moved = self.moved(of, x, z, goal, noise)
        for end, image in moved.items():
            with torch.no_grad():
                left = (of(image) - goal).flatten(1).norm(dim=1) / before
                again = net(image)
            columns[f"closed{end}"] = 100 * float((1 - left).mean())
            columns[f"named{end}"] = percent(named_by(read, image) == t)
            columns[f"decoded{end}"] = percent(named_by(judge, again.clamp(0, 1)) == t)
        seen = named_by(judge, moved[""])
        return columns | {"image": percent(seen == t), "unchanged": percent(seen == y)}

    def pairs(self, net: AutoencoderNet, judge: Classifier, work: Work) -> tuple[Tensor, ...]:
        """(images, others, their classes y, those of the others, noise), all of them well coded."""
        test, seed = self.encoder.data.splits(work).test, self.encoder.data.seed
        test = test.select(slice(0, self.count))
        t = choose_targets("other", test.labels, test.classes, seed=seed)
        z = test.select(of_classes(test, t, seed=seed))
        pictures = [data.pixels().to(work.device) for data in (test, z)]
        labels = [labels.to(work.device) for labels in (test.labels, t)]
        with torch.no_grad():
            again = [net(x).clamp(0, 1) for x in pictures]
        right = [named_by(judge, x) == y for x, y in zip(again, labels, strict=True)]
        kept = right[0] & right[1]
        drawn = random.row_keys(len(test), seed, "moves")
        noise = random.normal(drawn, test.shape).to(pictures[0])
        return tuple(part[kept] for part in (*pictures, *labels, noise))

    def moved(
        self, of: Encoder, x: Images, z: Images, goal: Tensor, noise: Tensor
    ) -> Mapping[str, Images]:
        """The changed images, by the ends of their columns."""
        norm, eps = self.threat.as_norm("a change of a code"), self.threat.eps
        seed = self.encoder.data.seed
        found = latent(of, x, goal, norm, eps, steps=self.steps, seed=seed)
        ends = found.x_adv, along(x, noise, norm, eps).x, along(x, z - x, norm, eps).x
        return dict(zip(MOVES, ends, strict=True))


@dataclass(frozen=True)
class MovePictures(Illustration):
    """Images, what they are changed to, both reconstructions, and the others', from `Moves`."""

    moves: Moves
    shown: int = 8

    def draw(self, work: Work) -> Pictures:
        of = self.moves
        net = work.load(of.encoder)
        pairs = of.pairs(net, work.load(of.judge), work)
        x, z, _, _, noise = (part[: self.shown] for part in pairs)
        if not len(x):
            return {}
        with torch.no_grad():
            changed = of.moved(net.code, x, z, net.code(z), noise)[""]
            rows = {"image": x, "again": net(x), "changed": changed, "fooled": net(changed)}
            rows |= {"other": z, "goal": net(z)}
        return {
            f"{of.encoder.architecture}.{name}": image.clamp(0, 1) for name, image in rows.items()
        }


@dataclass(frozen=True)
class Amplified(Measurements):
    """How much an encoder amplifies each direction of its code, and how useful that one is.

    The directions are the principal ones of the codes, each a feature of variance 1: amplification
    is the mean length of its gradient, in standard deviations per L2 of the pixels; rho and gamma
    are those of `notbugs.features.usefulness`, for its best class on the training images.

    - `count`: test images, the first
    """

    encoder: Autoencoder
    threat: Threat
    steps: int
    count: int

    @property
    def cost(self) -> float:
        return 8.0 * self.count * self.encoder.codes * self.steps

    def measure(self, work: Work) -> Tables:
        from scipy.stats import spearmanr  # takes a second to import

        net, parts = work.load(self.encoder), self.encoder.data.splits(work)
        train, test = self.encoder.data.train(work), parts.test.select(slice(0, self.count))
        model = readout(net, train)
        features = features_of(model, train, components=self.encoder.codes)
        found = usefulness(features, train, test, self.threat, steps=self.steps)
        best = found.trained.abs().argmax(dim=1, keepdim=True)
        rho, gamma = (of.gather(1, best)[:, 0] for of in (found.rho, found.gamma))
        x = test.pixels().to(work.device).requires_grad_()
        values = features.read(x) @ (features.directions / features.deviation[:, None]).T
        lengths = [
            torch.autograd.grad(column.sum(), x, retain_graph=True)[0].flatten(1).norm(dim=1).mean()
            for column in values.T
        ]
        gain = torch.stack(lengths).double().cpu()
        name = name_of(self.encoder)
        correlated: Any = spearmanr(gain, rho)
        row = {
            "amplification": float(gain.mean()),
            "most": float(gain.max()),
            "rho": float(rho.mean()),
            "gamma": float(gamma.mean()),
            "correlation": float(correlated.statistic),
        }
        numbers = zip(features.numbers.tolist(), rho.tolist(), gain.tolist(), strict=True)
        points = {f"{name} at {i}": {"rho": a, "amplification": b} for i, a, b in numbers}
        return {"amplification": {name: row}, "points": points}


def name_of(encoder: Autoencoder) -> str:
    """What rows call it; one without training is a control."""
    return encoder.architecture + "/untrained" * (not encoder.trained)
