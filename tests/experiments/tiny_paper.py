"""A paper as small as it can be, for the laws and as an example: one statement of Goodfellow 2014.

For each seed: a small net, and its error on test images under the fast gradient sign method,
beside that under uniform noise within the same bound.

**Source**: arXiv 1412.6572, section 4.
**Differs from the paper**: digits in place of MNIST, a smaller net, and eps 0.1 in place of 0.25.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from notbugs.attacks import fgsm
from notbugs.core import random
from notbugs.core.errors import check_positive
from notbugs.engine import Linf
from notbugs.experiments.examples import error
from notbugs.experiments.experiment import Experiment, Measurement, PaperConfig, Row, Work
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell, Columns
from notbugs.experiments.page import Bars, Column, Section, Table
from notbugs.experiments.rules import Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.training import Recipe


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `eps`: of the attack and of the noise, in pixel units of [0, 1]
    - `net`, `recipe`: of the net that is attacked
    """

    eps: float = 0.1
    net: Net = Net("mlp")  # noqa: RUF009 (frozen)
    recipe: Recipe = Recipe()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.eps, "eps")


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    config = Config(data, preset)
    if preset == "smoke":
        short = replace(config.recipe, epochs=4)
        config = replace(config, seeds=1, train_size=600, test_size=100, recipe=short)
    return config


@dataclass(frozen=True)
class Errors(Measurement):
    """A net's errors on test images in percent: as they are, under FGSM, and under noise.

    - `eps`: of the attack and of the noise, Linf, in pixel units of [0, 1]
    """

    model: Trained
    eps: float

    def measure(self, work: Work) -> Columns:
        net, seed = work.load(self.model), self.model.data.seed
        test = self.model.data.splits(work).test
        x, y = test.pixels().to(work.device), test.labels.to(work.device)
        keys = random.row_keys(len(x), seed, "noise", device=x.device)
        noise = self.eps * (2 * random.uniform(keys, x.shape[1:]).to(x) - 1)
        return {
            "test_error": error(net, x, y),
            "fgsm": error(net, fgsm(Linf(), self.eps)(net, x, y, seed=seed, fast=False).x_adv, y),
            "noise": error(net, (x + noise).clamp(0, 1), y),
        }


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The row of the table for one seed."""
    net = Trained(Data.of(config, seed), config.net, config.recipe)
    yield Row("errors", "standard", seed, Errors(net, config.eps))


CLAIMS = (
    Claim(
        "fgsm",
        "One step along the gradient's sign misleads the net more than noise: by 20 points",
        "99.9 % at eps .25 for a softmax net on MNIST (section 4); of noise not published",
        Exceeds(Cell("errors", "standard", "fgsm"), Cell("errors", "standard", "noise"), 20.0),
        fixed="before the first run",
    ),
)

COLUMNS = {
    "test_error": Column("Test error", "of the test images", unit="%"),
    "fgsm": Column("FGSM", "error under one step of FGSM", unit="%"),
    "noise": Column("Noise", "error under uniform noise within the same bound", unit="%"),
}

SECTIONS = (
    Section(
        "One step is enough",
        "The error of a net on test images, on those that FGSM moved by eps {eps} (Linf), and on "
        "those with uniform noise within that bound.",
        figures=(
            Bars(
                "errors",
                ("test_error", "fgsm", "noise"),
                "Errors on test images at eps {eps}.",
                "error, %",
            ),
        ),
        tables=(Table("errors", "Errors on test images."),),
    ),
)

EXPERIMENT = Experiment(
    name="tiny",
    paper="Goodfellow, Shlens, Szegedy 2014, “Explaining and harnessing adversarial examples” "
    "(arXiv 1412.6572), one statement",
    question="Does one step along the sign of the gradient fool a net that noise does not?",
    datasets=("digits",),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    claims=lambda config: CLAIMS,
    columns=COLUMNS,
    sections=SECTIONS,
)
