"""Synthetic images whose robust and non-robust features are known by construction."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Keys, Labels, Logits
from notbugs.data.dataset import ImageData

GREY = 0.5
HIGH_FREQUENCY = 0.25
"""Cycles per pixel from which a frequency counts as high (0.5 is the finest there is)."""


@dataclass(frozen=True)
class Planted:
    """Images with two features, each of which points to a class.

    An image is grey (0.5), plus a large smooth blob at one of `classes` places (the robust
    feature), plus one of `classes` faint fine-grained patterns (the non-robust feature),
    plus pixel noise. Patterns are orthogonal to each other and to all blobs. By default two
    classes' blobs are 3 apart in L2 and two patterns 0.5: a perturbation of L2 norm 0.5
    turns one pattern into another, and is far from moving a blob. Still the pattern predicts
    the label better (always, against nine times in ten).

    - `classes`: k, at least 2
    - `size`: height and width in pixels
    - `n`: number of images; classes come equally often (up to one)
    - `robust_amplitude`: L2 norm of a single blob, in pixel units
    - `nonrobust_amplitude`: L2 norm of a pattern, in pixel units
    - `noise`: standard deviation of the Gaussian noise on each pixel
    - `robust_accuracy`: how often the blob points to the label (else to another class)
    - `nonrobust_accuracy`: how often the pattern points to the label
    - `seed`: of the patterns, the labels and the noise

    **Raises** ValueError for a number out of range, too few pixels for the patterns, or
    amplitudes that would leave [0, 1].
    """

    classes: int = 4
    size: int = 16
    n: int = 3000
    robust_amplitude: float = 2.3
    nonrobust_amplitude: float = 0.35
    noise: float = 0.05
    robust_accuracy: float = 0.9
    nonrobust_accuracy: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:

        check_count(self.classes, "classes", 2)
        check_count(self.n, "n", self.classes)
        for name in ("robust_amplitude", "nonrobust_amplitude", "noise"):
            check_positive(getattr(self, name), name)
        for name in ("robust_accuracy", "nonrobust_accuracy"):
            if not 0 <= getattr(self, name) <= 1:
                raise bad_value(name, "lie in [0, 1]", getattr(self, name))
        smallest = 4 * math.ceil(math.sqrt(self.classes))
        check_count(self.size, "size", smallest, "Each blob takes 4 by 4 pixels at least.")
        reach = float(self.blobs.abs().max() + self.patterns.abs().max()) + 2 * self.noise
        if reach > GREY:
            raise bad_value(
                "robust_amplitude",
                "leave pixels inside [0, 1] together with pattern and noise",
                f"{self.robust_amplitude}, which reaches {GREY + reach:.2f}",
                "Lower the amplitudes or the noise, or raise `size`.",
            )

    def make(self) -> ImageData:
        """The images, float32 [n, 1, size, size], with the truth in two columns.

        "robust_feature" and "nonrobust_feature" are the class that each row's blob and
        pattern point to, int64 [n]. Values are clamped to [0, 1], which is rare.
        """
        order = torch.randperm(self.n, generator=random.generator(self.seed, "planted"))
        labels = (torch.arange(self.n) % self.classes)[order]
        robust = self._pointed(labels, self.robust_accuracy, "robust")
        nonrobust = self._pointed(labels, self.nonrobust_accuracy, "nonrobust")
        keys = random.row_keys(self.n, self.seed, "planted-noise")
        noise = self.noise * random.normal(keys, (1, self.size, self.size))
        images = (GREY + self.blobs[robust] + self.patterns[nonrobust] + noise).clamp(0, 1)
        return ImageData(
            images,
            labels,
            tuple(f"class {i}" for i in range(self.classes)),
            "planted",
            {"recipe": "planted", "planted": asdict(self)},
            {"robust_feature": robust, "nonrobust_feature": nonrobust},
        )

    @cached_property
    def blobs(self) -> Images:
        """The blob that each robust feature adds to grey, [k, 1, size, size].

        Gaussian bumps on a square grid, minus their mean over the classes, so that all
        classes are equally bright on average.
        """
        grid = math.ceil(math.sqrt(self.classes))
        cell = self.size / grid
        place = torch.arange(self.classes)
        axis = torch.arange(self.size) + 0.5
        down = _bump(axis, (place // grid + 0.5) * cell, 0.375 * cell)
        across = _bump(axis, (place % grid + 0.5) * cell, 0.375 * cell)
        bumps = down[:, None, :, None] * across[:, None, None, :]
        bumps = self.robust_amplitude * bumps / bumps[0].norm()
        return bumps - bumps.mean(dim=0)

    @cached_property
    def patterns(self) -> Images:
        """The pattern that each non-robust feature adds, [k, 1, size, size], of equal L2 norm."""
        keys = random.row_keys(self.classes, self.seed, "planted-patterns")
        signs = random.uniform(keys, (self.size, self.size), torch.float64).round() * 2 - 1
        fine = _high_pass(signs).flatten(1)
        flat = torch.cat([torch.ones(1, fine.shape[1]), self.blobs.flatten(1)]).double()
        avoided = torch.linalg.svd(flat, full_matrices=False)
        kept = avoided.Vh[avoided.S.div(avoided.S[0]) > 1e-6]
        fine = fine - (fine @ kept.T) @ kept
        basis = torch.linalg.qr(fine.T).Q.T  # Gram-Schmidt, in the order of the classes
        pattern = self.nonrobust_amplitude * basis
        return pattern.reshape(-1, 1, self.size, self.size).float()

    def robust_scores(self, images: Images) -> Logits:
        """How well each blob matches, [n, k]: the largest is the nearest blob in L2."""
        return _match(images, self.blobs)

    def nonrobust_scores(self, images: Images) -> Logits:
        """How well each pattern matches, [n, k]: the largest is the nearest pattern in L2."""
        return _match(images, self.patterns)

    def decode_robust(self, images: Images) -> Labels:
        """The class that each image's blob points to, [n]."""
        return self.robust_scores(images).argmax(dim=1)

    def decode_nonrobust(self, images: Images) -> Labels:
        """The class that each image's pattern points to, [n]."""
        return self.nonrobust_scores(images).argmax(dim=1)

    def _pointed(self, labels: Labels, accuracy: float, name: str) -> Labels:
        """The label with probability `accuracy`, else a uniformly drawn other class."""
        keys = random.row_keys(self.n, self.seed, "planted", name)
        return pointed_to(labels, keys, classes=self.classes, agreement=accuracy)


def pointed_to(labels: Labels, keys: Keys, *, classes: int, agreement: float) -> Labels:
    """The class that a feature of each image points to, [n]: its label, or another class.

    - `labels` [n] in 0..classes-1; `keys` [n]: one a row
    - `agreement`: the probability of the label, in [0, 1]; other classes are equally likely
    """
    right = random.scalar(keys) < agreement
    away = 1 + random.integers(random.fold(keys, "other"), classes - 1)
    return torch.where(right, labels, (labels + away) % classes)


def _bump(axis: Tensor, centers: Tensor, width: float) -> Tensor:
    return torch.exp(-((axis - centers[:, None]) ** 2) / (2 * width**2))


def _high_pass(patterns: Tensor) -> Tensor:
    """Patterns [k, s, s] without their low frequencies."""
    size = patterns.shape[-1]
    frequency = torch.fft.fftfreq(size, dtype=patterns.dtype)
    high = torch.hypot(frequency[:, None], frequency[None, :]) >= HIGH_FREQUENCY
    return torch.fft.ifft2(torch.fft.fft2(patterns) * high).real


def _match(images: Images, templates: Float[Tensor, "k *chw"]) -> Logits:
    """<x - grey, t> - |t|^2 / 2 for each template t: half the distance, but for a constant."""
    flat = templates.flatten(1).to(images)
    return (images - GREY).flatten(1) @ flat.T - flat.square().sum(dim=1) / 2
