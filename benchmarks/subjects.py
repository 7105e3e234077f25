"""What is attacked: models that are trained here and now, from fixed seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from norm_net import norm_net
from resnet20 import resnet20
from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.data import ImageData, Source, load_source, split
from notbugs.judge import predictions
from notbugs.models import Classifier, build, load
from notbugs.training import Adversary, Recipe, train

SEED = 0
SMALL = {"width": 16, "hidden": 64}
"""The CNN of the suites that need thousands of gradients."""
PLAIN = Recipe(epochs=4, warmup=0.1)
ROBUST = Recipe(
    epochs=8,
    lr=0.03,
    warmup=0.1,
    adversary=Adversary("linf:0.15", steps=5, eps_warmup=0.7),
)
Build = Callable[[tuple[int, int, int], int, int], Classifier]
"""(shape, classes, seed) -> an untrained model."""


@dataclass(frozen=True)
class Subject:
    """A model and images to attack it with: `x` [n, c, h, w] in [0, 1], labels `y` [n]."""

    name: str
    about: str
    model: Classifier
    data: ImageData

    @property
    def x(self) -> Tensor:
        return self.data.pixels()

    @property
    def y(self) -> Tensor:
        return self.data.labels

    def described(self) -> dict[str, object]:
        """What a report says of it."""
        return {
            "about": self.about,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "images": len(self.data),
            "shape": list(self.data.shape),
        }

    def right(self, n: int) -> "Subject":
        """With the first `n` images that the model classifies correctly."""
        said = predictions(self.model, self.data, batch_size=256)
        index = (said == self.data.labels).nonzero()[:n, 0]
        return Subject(self.name, self.about, self.model, self.data.select(index))


def found(*names: str) -> Source:
    """The first of these sets whose files are here (NOTBUGS_DATA names the folder)."""
    for name in names[:-1]:
        try:
            return load_source(name, download=False)
        except DataError:
            continue
    return load_source(names[-1])


def linear(quick: bool) -> Subject:
    """One linear layer on digits: the hardest case for the cost of a step."""
    recipe = Recipe(epochs=4 if quick else 20)
    return _trained("linear", found("digits"), _family("linear"), recipe)


def mnist_cnn(quick: bool) -> Subject:
    """The default CNN on MNIST, or digits."""
    return _trained("cnn", found("mnist", "digits"), _family("cnn"), PLAIN, 1000 if quick else 5000)


def small_cnn(quick: bool, seed: int = SEED) -> Subject:
    """A smaller one, for thousands of gradients."""
    source, n = found("mnist", "digits"), 1000 if quick else 5000
    return _trained("small cnn", source, _family("cnn", **SMALL), PLAIN, n, seed)


def robust_cnn(quick: bool, seed: int = SEED) -> Subject:
    """The same, trained adversarially."""
    source, n = found("mnist", "digits"), 1000 if quick else 5000
    return _trained("robust cnn", source, _family("cnn", **SMALL), ROBUST, n, seed)


def norm_cnn(quick: bool, seed: int = SEED) -> Subject:
    """A small one with batch norms, trained adversarially."""
    source, n = found("mnist", "digits"), 1000 if quick else 5000
    return _trained("norm cnn", source, norm_net, ROBUST, n, seed)


def normed(quick: bool) -> Subject:
    """A residual net with batch norms, on digits: a cheap pass."""
    recipe = replace(PLAIN, epochs=4 if quick else 20)
    return _trained("resnet8", found("digits"), _family("resnet8", width=8), recipe)


def cifar_resnet(quick: bool) -> Subject:
    """ResNet-20 on CIFAR-10, or on planted images where CIFAR-10 is not here."""
    recipe = replace(PLAIN, epochs=1) if quick else PLAIN
    source = found("cifar10", "planted")
    return _trained("resnet20", source, resnet20, recipe, 1000 if quick else 20_000)


def loaded(weights: Path) -> Subject:
    """A model from a file of notbugs, with the test images of the set that the file names."""
    model, about = load(weights)
    parts = split(load_source(str(about["dataset"])), seed=SEED)
    return Subject(weights.stem, f"{weights.name}: {model.architecture}", model, parts.test)


def _family(name: str, **options: int) -> Build:
    def made(shape: tuple[int, int, int], classes: int, seed: int) -> Classifier:
        return build(name, shape=shape, classes=classes, seed=seed, options=options)

    return made


def _trained(
    name: str,
    source: Source,
    made: Build,
    recipe: Recipe,
    train_size: int | None = None,
    seed: int = SEED,
) -> Subject:
    enough = source.test is not None and train_size is not None
    parts = split(source, seed=seed, train_size=train_size if enough else None)
    model = made(parts.train.shape, parts.train.classes, seed)
    train(model, parts.train, recipe, seed=seed)
    how = f"trained on {len(parts.train)} images of {source.title}, {recipe.epochs} epochs"
    if recipe.adversary is not None:
        how += f", adversary {recipe.adversary.threat} of {recipe.adversary.steps} steps"
    return Subject(name, f"{how}, seed {seed}", model.eval(), parts.test)
