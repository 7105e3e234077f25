"""Stages about sparse codes: vectors, dictionaries of them, and what codes leave and tell."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from notbugs.core import random
from notbugs.data import safefile
from notbugs.experiments.constructed import Constructed
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Stage,
    Work,
)
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.readouts import read
from notbugs.experiments.shared import Data

ATOMS, FILE = "atoms", "atoms.safetensors"
SHOWN = 8
PASSES = 20
"""Over the vectors that a dictionary is learnt from."""


class Sample(NamedTuple):
    """Vectors to learn a dictionary from, others to code, and these ones' classes.

    Their mean squared length is 1; each keeps its share, so that Gaussians of the same covariance
    are not made more even than they are.

    - `targets`, `true`: the class that each aims at, and that of its image; None: it has none
    """

    learnt: Tensor
    coded: Tensor
    targets: tuple[Tensor, Tensor] | None = None
    true: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Vectors:
    """Where vectors come from: half of them is learnt from, the other half coded.

    - `on`: a set whose perturbations they are; None: the images of `data`, less the mean image
    - `gaussian`: normal draws in their place, of the mean and covariance of the first half
    """

    data: Data
    on: Constructed | None = None
    gaussian: bool = False

    def of(self, work: Work) -> Sample:
        """The vectors."""
        train = self.data.train(work)
        if self.on is None:
            x = train.pixels().flatten(1).double()
            return self._halves(x - x.mean(dim=0))
        made = work.load(self.on)
        x = made.pixels() - train.pixels(made.columns["source_rows"])
        half = len(made) // 2
        halves = [(c[:half], c[half:]) for c in (made.labels, made.columns["true_labels"])]
        sample = self._halves(x.flatten(1).double())
        return sample if self.gaussian else sample._replace(targets=halves[0], true=halves[1])

    def _halves(self, x: Tensor) -> Sample:
        x = x / x.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
        half = len(x) // 2
        if self.gaussian:
            keys = random.row_keys(len(x), self.data.seed, "gaussian")
            values, vectors = torch.linalg.eigh(x[:half].T.cov())
            drawn = random.normal(keys, (x.shape[1],), torch.float64)
            x = x[:half].mean(dim=0) + (drawn * values.clamp(min=0).sqrt()) @ vectors.T
        return Sample(x[:half], x[half:])


@dataclass(frozen=True)
class Dictionary(Stage[Tensor]):
    """A dictionary of unit atoms [atoms, pixels], learnt on vectors.

    **Source**: Mairal et al. 2009, "Online dictionary learning for sparse coding".
    """

    vectors: Vectors
    atoms: int
    penalty: float

    @property
    def label(self) -> str:
        return f"learn a dictionary · seed {self.vectors.data.seed}"

    @property
    def cost(self) -> float:
        return 300.0 * self.atoms

    def make(self, work: Work) -> None:
        from sklearn.decomposition import MiniBatchDictionaryLearning  # slow to import
        from sklearn.exceptions import ConvergenceWarning

        options: dict[str, Any] = {
            "alpha": self.penalty,
            "batch_size": 64,
            "max_iter": PASSES,
            "fit_algorithm": "cd",
            "random_state": random.seed_of(self.vectors.data.seed, "dictionary") % 2**32,
        }
        learner: Any = MiniBatchDictionaryLearning(self.atoms, **options)
        with warnings.catch_warnings():  # of codes that miss the optimum by less than 1e-3
            warnings.simplefilter("ignore", ConvergenceWarning)
            atoms = learner.fit(self.vectors.of(work).learnt.numpy()).components_
        tensor = torch.from_numpy(atoms).double()
        tensor = tensor / tensor.norm(dim=1, keepdim=True).clamp(min=1e-12)
        safefile.write_tensors(work.folder / FILE, {ATOMS: tensor}, {})

    def load(self, folder: Path, work: Work) -> Tensor:
        return safefile.read_tensors(folder / FILE, what="data")[0][ATOMS]


def coded(x: Tensor, atoms: Tensor, count: int) -> Tensor:
    """The codes of vectors [n, d] in atoms [m, d], at most `count` of them not zero: [n, m]."""
    from sklearn.decomposition import sparse_encode  # slow to import

    codes: Any = sparse_encode(x.numpy(), atoms.numpy(), algorithm="omp", n_nonzero_coefs=count)
    return torch.from_numpy(np.asarray(codes))


@dataclass(frozen=True)
class Errors(Measurements):
    """What sparse codes of vectors leave of them in their own dictionary, by number of atoms.

    Percent of the squared lengths, of vectors that no dictionary was learnt on.
    """

    name: str
    vectors: Vectors
    dictionary: Dictionary
    counts: tuple[int, ...]

    def measure(self, work: Work) -> Tables:
        x, atoms = self.vectors.of(work).coded, work.load(self.dictionary)
        return {
            "own": {
                f"{self.name} at {count}": {"left": left(x, atoms, count)} for count in self.counts
            }
        }


def left(x: Tensor, atoms: Tensor, count: int) -> float:
    """Percent of the squared lengths of vectors, in all, that their codes leave."""
    rest = x - coded(x, atoms, count) @ atoms
    return 100 * float(rest.square().sum() / x.square().sum())


@dataclass(frozen=True)
class Crossed(Measurement):
    """What codes leave of vectors, in the dictionaries of others: a column each."""

    vectors: Vectors
    dictionaries: tuple[tuple[str, Dictionary], ...]
    count: int

    def measure(self, work: Work) -> Columns:
        x = self.vectors.of(work).coded
        return {
            f"in_{i}": left(x, work.load(of), self.count)
            for i, (_, of) in enumerate(self.dictionaries)
        }


@dataclass(frozen=True)
class Readout(Measurement):
    """The class that a perturbation aims at, and that of its image, read linearly from its code.

    "target", "true": from codes of the vectors in their own dictionary; "target_images": in that
    of images; "target_pixels": from the perturbations themselves. On the second half of the
    vectors, learnt on the first.
    """

    vectors: Vectors
    own: Dictionary
    images: Dictionary
    count: int

    def measure(self, work: Work) -> Columns:
        sample = self.vectors.of(work)
        assert sample.targets is not None
        assert sample.true is not None
        halves = sample.learnt, sample.coded
        codes = {
            name: tuple(coded(x, work.load(of), self.count) for x in halves)
            for name, of in (("own", self.own), ("images", self.images))
        }

        def told(codes: tuple[Tensor, ...], labels: tuple[Tensor, Tensor]) -> float:
            return read(codes[0], labels[0], codes[1], labels[1])

        return {
            "target": told(codes["own"], sample.targets),
            "true": told(codes["own"], sample.true),
            "target_images": told(codes["images"], sample.targets),
            "target_pixels": told(halves, sample.targets),
            "chance": 100 / len(sample.targets[0].unique()),
        }


@dataclass(frozen=True)
class AtomPictures(Illustration):
    """The atoms that code most of their vectors, around grey, a row to a dictionary."""

    dictionaries: tuple[tuple[str, Vectors, Dictionary], ...]
    count: int

    def draw(self, work: Work) -> Pictures:
        sheets: dict[str, Tensor] = {}
        for name, vectors, dictionary in self.dictionaries:
            atoms = work.load(dictionary)
            used = coded(vectors.of(work).coded, atoms, self.count).square().sum(dim=0)
            some = atoms[used.topk(min(SHOWN, len(atoms))).indices].float()
            images = some.unflatten(1, vectors.data.splits(work).test.shape)
            largest = images.abs().flatten(1).amax(dim=1)[:, None, None, None].clamp(min=1e-12)
            sheets[f"atoms.{name}"] = 0.5 + 0.5 * images / largest
        return sheets
