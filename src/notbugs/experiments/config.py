"""Settings of the main experiment, and its presets for each dataset and machine size."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_positive, unknown_name
from notbugs.data import Augment
from notbugs.engine import NORMS
from notbugs.experiments.experiment import PaperConfig
from notbugs.experiments.model_training import Net
from notbugs.features import InversionSettings
from notbugs.training import Adversary, Recipe

PRESETS = ("smoke", "laptop", "gpu", "paper")


def _cnn(width: int, hidden: int) -> Net:
    return Net("cnn", (("width", width), ("hidden", hidden)))


# Chosen on the held-out validation images of other seeds (100 to 105). Digits has no official
# test part and each seed splits it differently: some of those are test images of seeds 0 to 2.
_PLAIN = Recipe(epochs=30, lr=0.1, warmup=0.2)
_ROBUST = replace(
    _PLAIN, lr=0.05, watch_every=5, adversary=Adversary("l2:1.5", steps=5, eps_warmup=0.4)
)


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of the main experiment.

    - `net`: the architecture of all models; `standard`, `robust`, `student`: their trainings
    - `norm`, `eps_eval`: the threat of every robust accuracy in the tables
    - `eps_sets`: radii at which D_rand, D_det, D_other and their controls are built; the
      largest decides the claims
    - `push_steps`, `push_step_size`: PGD of the targeted sets (None: 2.5 * eps / steps)
    """

    net: Net = _cnn(32, 64)  # noqa: RUF009 (frozen)
    norm: str = "l2"
    eps_eval: float = 1.0
    eps_sets: tuple[float, ...] = (0.5, 1.0, 2.0)
    standard: Recipe = _PLAIN
    robust: Recipe = _ROBUST
    student: Recipe = _PLAIN
    inversion: InversionSettings = InversionSettings(steps=60)  # noqa: RUF009 (frozen)
    push_steps: int = 40
    push_step_size: float | None = None
    eval_steps: int = 20
    batch_size: int = 256
    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.eps_eval, "eps_eval")
        for eps in self.eps_sets:
            check_positive(eps, "eps_sets")
        if not self.eps_sets:
            raise bad_value("eps_sets", "hold at least one radius", "none")
        if len(set(self.eps_sets)) < len(self.eps_sets):  # would count as further seeds
            raise bad_value("eps_sets", "hold each radius once", self.eps_sets)
        if self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)

    def with_threat(self, threat: str) -> "Config":
        """A copy with the robust model trained at that threat."""
        adversary = replace(self.robust.adversary or Adversary(), threat=threat)
        return replace(self, robust=replace(self.robust, adversary=adversary))


def _digits(config: Config) -> Config:
    return config


def _mnist(config: Config) -> Config:
    return replace(_grey(config), eps_eval=2.0, eps_sets=(2.0, 4.0)).with_threat("l2:2.0")


def _grey(config: Config) -> Config:
    """28x28 grey images: a subset and a narrower net on a laptop."""
    short = replace(config.standard, epochs=15)
    small = replace(
        config,
        seeds=2,
        train_size=4000,
        test_size=1000,
        batch_size=64,
        net=_cnn(16, 64),
        standard=short,
        student=short,
        robust=replace(config.robust, epochs=15),
        eps_sets=(1.0, 2.0),
        inversion=InversionSettings(steps=60, step_size=1.0),
        push_steps=30,
    )
    return small.with_threat("l2:1.0")


def _cifar(config: Config) -> Config:
    """32x32 colour images, the paper's own setting made smaller."""
    crop = Augment(crop_padding=4, flip=True)
    recipe = replace(config.standard, epochs=20, lr=0.05, augment=crop)
    small = replace(
        config,
        seeds=1,
        train_size=5000,
        test_size=1000,
        batch_size=64,
        net=_cnn(16, 64),
        eps_eval=0.5,
        eps_sets=(0.5, 1.0),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=config.robust.adversary),
        inversion=InversionSettings(steps=60, step_size=1.0),
        push_steps=30,
    )
    return small.with_threat("l2:0.5")


def _planted(config: Config) -> Config:
    # At 0.1 one of 54 students diverged, on the leakage control of seed 2.
    shorter = replace(config.standard, epochs=15, lr=0.05)
    planted = replace(
        config,
        eps_eval=0.5,
        eps_sets=(0.25, 0.5, 1.0),
        standard=shorter,
        student=shorter,
        robust=replace(config.robust, epochs=15),
        net=_cnn(16, 64),
    )
    return planted.with_threat("l2:1.0")


def _folder(config: Config) -> Config:
    """Unknown images: a lower learning rate."""
    gentle = replace(config.standard, lr=0.05)
    config = replace(config, standard=gentle, student=gentle, seeds=2)
    return replace(config, eps_eval=0.5, eps_sets=(0.5, 1.0)).with_threat("l2:0.5")


_BY_DATA: dict[str, Callable[[Config], Config]] = {
    "digits": _digits,
    "planted": _planted,
    "mnist": _mnist,
    "fashion-mnist": _grey,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
}


DATASETS = tuple(_BY_DATA)
"""The datasets that have settings; "folder" is written folder:PATH."""


def _smoke(config: Config) -> Config:
    """Takes seconds: every stage runs, but models are poor."""
    gentle = Adversary(f"{config.norm}:{config.eps_eval / 2!r}", steps=2, eps_warmup=0.5)
    short = replace(config.standard, epochs=12, batch_size=32, lr=0.1)
    return replace(
        config,
        standard=short,
        student=replace(short, epochs=4),
        robust=replace(short, watch_every=5, adversary=gentle),
        seeds=1,
        train_size=500,
        test_size=60,
        eps_sets=config.eps_sets[-1:],
        net=_cnn(8, 32),
        inversion=InversionSettings(steps=5),
        push_steps=5,
        eval_steps=3,
    )


def _gpu(config: Config) -> Config:
    """The whole table on one large GPU: all images, ResNet-18, bf16, one seed."""
    recipe = replace(config.standard, epochs=24, batch_size=512, lr=0.2, precision="bf16")
    adversary = replace(config.robust.adversary or Adversary(), steps=3, train_mode=True)
    return replace(
        config,
        seeds=1,
        train_size=None,
        test_size=None,
        net=Net("resnet18"),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=adversary),
        inversion=InversionSettings(steps=100, step_size=1.0),
        push_steps=40,
        batch_size=2048,
        precision="bf16",
    )


def _paper(config: Config) -> Config:
    """The published settings (Ilyas et al. 2019, Appendix C): ResNet-50, full length."""
    recipe = replace(config.standard, epochs=150, batch_size=128, lr=0.1, warmup=0.0, decay="step")
    adversary = Adversary(f"{config.norm}:{config.eps_eval!r}", steps=7, random_start=False)
    adversary = replace(adversary, step_size=config.eps_eval / 5)
    return replace(
        config,
        seeds=3,
        train_size=None,
        test_size=None,
        net=Net("resnet50"),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=adversary),
        inversion=InversionSettings(steps=1000, step_size=0.1, schedule="constant"),
        push_steps=100,
        push_step_size=0.1,
    )


_BY_PRESET: dict[str, Callable[[Config], Config]] = {
    "smoke": _smoke,
    "laptop": lambda config: config,
    "gpu": _gpu,
    "paper": _paper,
}


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: "smoke", "laptop", "gpu" or "paper"."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    make = _BY_DATA.get(data.split(":")[0])
    if make is None:
        raise unknown_name("dataset", data, _BY_DATA)
    return _BY_PRESET[preset](make(Config(data=data, preset=preset)))
