"""What is attacked: trained models on digits, and an untrained ResNet-18 for speed alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.data import ImageData, load_source, split
from notbugs.models import Classifier, build
from notbugs.training import Adversary, Recipe, train

SEED = 0


@dataclass(frozen=True)
class Subject:
    """A model, its images, and how it is measured.

    - `threats`: (norm, eps), eps in pixel units of [0, 1]
    - `x`, `y`: all images of the strength measurement; none: speed only
    - `timed`: (fewest, most) steps, and `batch` images, of the time measurement
    """

    name: str
    about: str
    model: Classifier
    x: Tensor
    y: Tensor
    threats: tuple[tuple[str, float], ...]
    timed: tuple[int, int]
    batch: int = 128
    speed_only: bool = False


def subjects(quick: bool) -> list[Subject]:
    """The models of the benchmark, trained here and now from fixed seeds."""
    parts = split(load_source("digits"), seed=SEED)
    x, y = parts.test.pixels(), parts.test.labels
    epochs = 4 if quick else 20
    timed = (5, 20) if quick else (20, 100)
    weak = (("linf", 0.06), ("l2", 0.5))
    strong = (("linf", 0.15), ("l2", 1.0))
    made = [
        Subject(
            "linear",
            f"one linear layer, {epochs} epochs on digits",
            _trained("linear", parts.train, Recipe(epochs=epochs)),
            x,
            y,
            weak,
            timed,
        ),
        Subject(
            "cnn",
            f"the default cnn, {epochs} epochs on digits",
            _trained("cnn", parts.train, Recipe(epochs=epochs)),
            x,
            y,
            weak,
            timed,
        ),
    ]
    if quick:
        return made
    adversary = Adversary(threat="l2:0.5", steps=5, eps_warmup=0.2)
    return [
        *made,
        Subject(
            "cnn, adversarial",
            f"the default cnn, {epochs} epochs of adversarial training at {adversary.threat}",
            _trained("cnn", parts.train, Recipe(epochs=epochs, adversary=adversary)),
            x,
            y,
            strong,
            timed,
        ),
        _resnet(),
    ]


def _trained(architecture: str, data: ImageData, recipe: Recipe) -> Classifier:
    model = build(architecture, shape=data.shape, classes=data.classes, seed=SEED)
    return train(model, data, recipe, seed=SEED).model


def _resnet() -> Subject:
    """ResNet-18 of half the usual width: the cost of a step does not ask for trained weights."""
    model = build("resnet18", shape=(3, 32, 32), classes=10, seed=SEED, options={"width": 32})
    made = torch.Generator().manual_seed(SEED)
    x = torch.rand(64, 3, 32, 32, generator=made)
    y = torch.randint(10, (64,), generator=made)
    return Subject(
        "resnet18, width 32",
        "random weights and images of 3x32x32",
        model.eval(),
        x,
        y,
        (("linf", 8 / 255),),
        (2, 5),
        batch=64,
        speed_only=True,
    )
