"""Settings and stages of papers that take the main experiment's models and sets."""

from dataclasses import dataclass, replace
from typing import TypeVar

from notbugs.core.errors import check_count, check_positive
from notbugs.engine import Threat
from notbugs.engine.threat import radius
from notbugs.experiments.config import Config, config_for
from notbugs.experiments.constructed import Constructed, Moved, Pushes, Targeted
from notbugs.experiments.experiment import PaperConfig
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import Data, Trained
from notbugs.training import Recipe

STANDARD, ROBUST = "standard", "robust"
BATCH = 256
HEADLINE = {"digits": 0.6}
"""Radii that no observer sees by the main experiment's rule; of others half of its own is taken."""


@dataclass(frozen=True)
class SetsConfig(PaperConfig):
    """Settings of targeted sets.

    - `norm`, `eps`: of their perturbations; `steps`: of PGD
    """

    norm: str = "l2"
    eps: float = 1.0
    steps: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.steps, "steps")
        check_positive(self.eps, "eps")
        self.threat_of(self.eps).as_norm("this paper")

    def threat_of(self, eps: float) -> Threat:
        """Changes of at most eps."""
        return Threat.parse(f"{self.norm}:{radius(self.norm, eps)}")

    @property
    def threat(self) -> Threat:
        """That of the sets."""
        return self.threat_of(self.eps)


@dataclass(frozen=True)
class ModelsConfig(SetsConfig):
    """Settings of targeted sets and of the models that they are made with.

    - `net`, `standard`, `robust`: the models' architecture, and how they are trained
    """

    net: Net = Net("cnn")  # noqa: RUF009 (frozen)
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    robust: Recipe = Recipe()  # noqa: RUF009 (frozen)


C = TypeVar("C", bound=ModelsConfig)


def main_settings(data: str, preset: str) -> Config:
    """The main experiment's laptop settings; for smoke its smallest, a net that learns fast."""
    if preset != "smoke":
        return config_for(data, "laptop")
    config = config_for(data, "smoke")
    standard, robust = (replace(r, epochs=6, lr=0.05) for r in (config.standard, config.robust))
    net = Net("strided", (("width", 8), ("hidden", 32)))
    return replace(config, net=net, standard=standard, robust=robust)


def models_config(kind: type[C], data: str, preset: str) -> C:
    """The main experiment's settings (`main_settings`) as those of another paper."""
    main = main_settings(data, preset)
    return kind(
        data=data,
        preset=preset,
        seeds=1 if preset == "smoke" else 5 if data == "digits" else 3,
        train_size=main.train_size,
        test_size=main.test_size,
        eps=HEADLINE.get(data, main.eps_eval / 2),
        steps=3 if preset == "smoke" else 40,
        net=main.net,
        standard=main.standard,
        robust=main.robust,
    )


def model(config: ModelsConfig, seed: int, role: str) -> Trained:
    """A model that was trained on images: the robust one, or by any other name a standard one."""
    recipe = config.robust if role == ROBUST else config.standard
    return Trained(Data.of(config, seed), config.net, recipe, role)


def student(config: ModelsConfig, on: Constructed) -> Trained:
    """A fresh model of a set."""
    return Trained(on.original, config.net, config.standard, "student", on)


def pushes(config: SetsConfig) -> Pushes:
    """How images are pushed towards a class."""
    return Pushes(config.steps, None, BATCH)


def targeted(config: SetsConfig, source: Trained, kind: str, *, trained: bool = True) -> Targeted:
    """D_rand, D_det or D_other of a source."""
    return Targeted(source, kind, config.threat, pushes(config), trained=trained)


def at_random(config: SetsConfig, source: Trained, kind: str) -> Moved:
    """The same with random directions: a control."""
    return Moved(source, kind, config.threat, "random", BATCH)
