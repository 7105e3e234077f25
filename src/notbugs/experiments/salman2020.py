"""Salman et al. 2020, "Do Adversarially Robust ImageNet Models Transfer Better?".

Nets are pretrained on one set, against adversaries of several radii and without one, and then
transferred to another of which few images are known: by fixed features, a linear classifier of the
embedding, and by fine-tuning of all weights. By width, and to images of less detail.

**Source**: arXiv 2007.08489.
**Differs from the paper**: small nets and sets; few images of the target; a regularised logistic
regression in the place of a linear layer that is trained by SGD; the radius is chosen on held-out
training images of the target.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.engine import Threat
from notbugs.engine.threat import radius
from notbugs.experiments.config import config_for as main_config
from notbugs.experiments.constructed import Shuffled
from notbugs.experiments.data_views import Part
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Stage
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, Below, Claim, Exceeds
from notbugs.experiments.salman2020_page import COLUMNS, SECTIONS
from notbugs.experiments.salman2020_stages import (
    SHOTS,
    AsAccurate,
    Best,
    BestRadius,
    Fixed,
    Gain,
    Ladder,
    OnSource,
    Target,
    Transferred,
    Tuned,
)
from notbugs.experiments.shared import Trained
from notbugs.models.zoo import default_options
from notbugs.training import Adversary, Recipe

SOURCES = {
    "digits": ("digits", "mnist", "fashion-mnist"),
    "mnist": ("fashion-mnist", "mnist", "digits"),
    "fashion-mnist": ("mnist", "fashion-mnist", "digits"),
    "cifar10": ("cifar10",),
}
"""Sets of as many channels, by the target; the first is the default. The target itself: by halves
of the classes."""
CLASSES = 10
"""Of each of these sets."""
WIDE = ("width", "hidden", "widen")
"""Options of nets that make them wider."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run, whose dataset is the target.

    - `source`: the set of the pretraining; the target's own name: one half of its classes, the
      other is the target. `source_size`: its training images, as `train_size`
    - `side`: of the images of both, in pixels; `detail`: the side of those with less detail
    - `norm`, `radii`: of the adversaries in pretraining, rising from 0 (none); `inner_steps`: of
      PGD; `eps`: at which nets are tried on the source
    - `net`: the architecture; `widths`: its widths, as multiples
    - `pretraining`, `tuning`: how nets are trained on the source and on the target; `rates`: of the
      latter, the best on held-out images
    - `shots`: training images of each class of the target
    - `best_fixed`, `best_full`: the radii of claims, above 0; None: chosen on held-out images
    """

    source: str = ""
    source_digest: str = ""
    source_size: int | None = None
    side: int = 28
    detail: int = 7
    norm: str = "l2"
    radii: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)
    inner_steps: int = 5
    eps: float = 0.5
    net: Net = Net("cnn", (("width", 16), ("hidden", 64)))  # noqa: RUF009 (frozen)
    widths: tuple[float, ...] = (0.5, 1.0, 2.0)
    pretraining: Recipe = Recipe()  # noqa: RUF009 (frozen)
    tuning: Recipe = Recipe(epochs=20, batch_size=32)  # noqa: RUF009 (frozen)
    rates: tuple[float, ...] = (0.1, 0.02)
    shots: tuple[int, ...] = (10, 30, 100)
    best_fixed: float | None = None
    best_full: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("side", "detail", "inner_steps"):
            check_count(getattr(self, name), name)
        if len(self.radii) < 2 or list(self.radii) != sorted({0.0, *self.radii}):
            raise bad_value("radii", "rise from 0", self.radii)
        if len(self.shots) != len(SHOTS) or list(self.shots) != sorted(set(self.shots)):
            raise bad_value("shots", f"be {len(SHOTS)} rising numbers", self.shots)
        for name in ("shots", "rates", "widths"):
            for number in getattr(self, name):
                check_positive(number, name)
        if not self.rates:
            raise bad_value("rates", "hold a learning rate", "none")
        if len(self.widths) < 2 or list(self.widths) != sorted(set(self.widths)):
            raise bad_value("widths", "be two rising multiples or more", self.widths)
        for name in ("best_fixed", "best_full"):
            chosen = getattr(self, name)
            if chosen is not None:
                check_positive(chosen, name)
        self.threat_of(self.eps).as_norm("this paper")

    def threat_of(self, eps: float) -> Threat:
        """Changes of at most eps."""
        return Threat.parse(f"{self.norm}:{radius(self.norm, eps)}")

    @property
    def digested(self) -> Mapping[str, str]:
        return {"digest": self.data, "source_digest": self.source}

    @property
    def halves(self) -> bool:
        """Whether source and target are halves of one set, by classes."""
        return self.source == self.data

    @property
    def fixed_radius(self) -> float:
        """The radius of claims about fixed features; before it is chosen, the largest."""
        return self.radii[-1] if self.best_fixed is None else self.best_fixed

    @property
    def full_radius(self) -> float:
        """The same of fine-tuning."""
        return self.radii[-1] if self.best_full is None else self.best_full


def config_for(data: str, preset: str) -> Config:
    """The settings of a target at a preset: pretraining as in the main experiment."""
    main = main_config(data, "smoke" if preset == "smoke" else "laptop")
    config = Config(data, preset, source=SOURCES[data][0], pretraining=main.standard)
    config = replace(config, train_size=main.train_size, test_size=main.test_size)
    if data == "digits":
        config = replace(config, seeds=5, side=8, detail=4)
    else:
        short = replace(main.standard, epochs=10, lr=0.05)
        radii = (0.0, 0.5, 1.0, 2.0) if data != "cifar10" else (0.0, 0.25, 0.5, 1.0)
        config = replace(config, pretraining=short, radii=radii, inner_steps=3, eps=1.0)
        config = replace(config, source_size=main.train_size, widths=(0.5, 1.0))
        config = replace(config, tuning=replace(config.tuning, epochs=10), rates=(0.05,))
        config = replace(config, side=32 if data == "cifar10" else 28)
    if preset == "smoke":
        net, short = Net("mlp", (("width", 8),)), replace(config.tuning, epochs=1)
        config = replace(config, seeds=1, net=net, tuning=short, rates=(0.1,), shots=(2, 4, 8))
        config = replace(config, train_size=400, test_size=60, radii=(0.0, 0.5), inner_steps=1)
        recipe = replace(config.pretraining, epochs=2)
        config = replace(config, pretraining=recipe, widths=(0.5, 1.0), source_size=400)
    return config


def source_data(config: Config, seed: int) -> Part:
    """The set of the pretraining."""
    half = tuple(range(CLASSES // 2)) if config.halves else ()
    sizes = config.source_size, config.test_size
    return Part(config.source, config.source_digest, seed, *sizes, side=config.side, classes=half)


def target(config: Config, seed: int, detail: int = 0) -> Target:
    """The target, of full detail (0) or less."""
    half = tuple(range(CLASSES // 2, CLASSES)) if config.halves else ()
    place = config.data, config.digest, seed, config.train_size, config.test_size
    data = Part(*place, side=config.side, classes=half, detail=detail)
    return Target(data, config.shots)


def pretrained(config: Config, seed: int, eps: float, times: float = 1.0) -> Trained:
    """A net of the source, trained within a radius, of so many times the width."""
    recipe = config.pretraining
    if eps:
        threat = str(config.threat_of(eps))
        recipe = replace(
            recipe, adversary=Adversary(threat, steps=config.inner_steps, eps_warmup=0.4)
        )
    return Trained(source_data(config, seed), wider(config.net, times), recipe, "pretrained")


def wider(net: Net, times: float) -> Net:
    """A net of so many times the width, where its architecture has options for it."""
    if times == 1:
        return net
    options = default_options(net.architecture) | dict(net.options)
    for name in WIDE:
        size = options.get(name)
        if isinstance(size, int):
            options[name] = max(1, round(times * size))
    return replace(net, options=tuple(options.items()))


def tuned(config: Config, of: Trained, seed: int, *, scratch: bool = False) -> Tuned:
    """A net after fine-tuning of all weights."""
    where = target(config, seed)
    return Tuned(of, where, True, config.tuning, config.rates, scratch)


def fixed_ladder(config: Config, seed: int, detail: int = 0) -> Ladder:
    """Transfers by fixed features, by radius."""
    where = target(config, seed, detail)
    return tuple((eps, Fixed(pretrained(config, seed, eps), where)) for eps in config.radii)


def full_ladder(config: Config, seed: int) -> Ladder:
    """Transfers by fine-tuning, by radius."""
    return tuple((eps, tuned(config, pretrained(config, seed, eps), seed)) for eps in config.radii)


def as_accurate(config: Config, seed: int, eps: float) -> AsAccurate:
    """A standard net that is as accurate on its source as the robust one."""
    standard, robust = (pretrained(config, seed, e) for e in (0.0, eps))
    return AsAccurate(standard.data, standard.net, standard.recipe, "pretrained", like=robust)


def controls(config: Config, seed: int, table: str) -> dict[str, Transferred]:
    """What a standard net is compared with, by fixed features or by fine-tuning."""
    standard, where = pretrained(config, seed, 0.0), target(config, seed)
    shuffled = replace(standard, role="shuffled", on=Shuffled(standard.data))
    if table == "fixed":
        return {
            "equal accuracy": Fixed(as_accurate(config, seed, config.fixed_radius), where),
            "shuffled labels": Fixed(shuffled, where),
            "untrained": Fixed(standard, where, trained=False),
            "pixels": Fixed(standard, where, pixels=True),
        }
    return {
        "equal accuracy": tuned(config, as_accurate(config, seed, config.full_radius), seed),
        "shuffled labels": tuned(config, shuffled, seed),
        "from scratch": tuned(config, standard, seed, scratch=True),
    }


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    threat, where = str(config.threat_of(config.eps)), target(config, seed)
    for table, ladder in (
        ("fixed", fixed_ladder(config, seed)),
        ("full", full_ladder(config, seed)),
    ):
        for eps, stage in ladder:
            name = f"pretrained at {eps:g}"
            yield Row(table, name, seed, OnSource(stage.source, threat))
            yield Row(table, name, seed, stage)
            yield Row(table, name, seed, Gain(stage, ladder[0][1]))
        plain = ladder[0][1]
        for name, stage in controls(config, seed, table).items():
            if isinstance(stage.source, AsAccurate):
                yield Row(table, f"standard/{name}", seed, OnSource(stage.source, threat))
            yield Row(table, f"standard/{name}", seed, stage)
            yield Row(table, f"standard/{name}", seed, Gain(stage, plain))
    for times in config.widths:
        for name, eps in (("standard", 0.0), ("robust", config.fixed_radius)):
            of = pretrained(config, seed, eps, times)
            yield Row("width", f"{name} at {times:g}", seed, Fixed(of, where))
    for name, detail in (("full detail", 0), ("less detail", config.detail)):
        ladder = fixed_ladder(config, seed, detail)
        yield Row("best", name, seed, Best(ladder))
        for eps, stage in ladder:
            yield Row("detail", f"{name} at {eps:g}", seed, stage)
            yield Row("detail", f"{name} at {eps:g}", seed, Gain(stage, ladder[0][1]))


def choices(config: Config) -> Mapping[str, Stage[Any]]:
    """The radii of claims, on held-out training images of the target, over all seeds."""
    every = range(config.seeds)
    found: dict[str, Stage[Any]] = {}
    if config.best_fixed is None:
        found["best_fixed"] = BestRadius(tuple(fixed_ladder(config, seed) for seed in every))
    if config.best_full is None:
        found["best_full"] = BestRadius(tuple(full_ladder(config, seed) for seed in every))
    return found


def claims(config: Config) -> Sequence[Claim]:
    """The paper's statements, and what a sceptic would ask of them."""
    none = "not published"
    low, high = (f"robust at {times:g}" for times in (config.widths[0], config.widths[-1]))
    best = {"fixed": config.fixed_radius, "full": config.full_radius}

    def cell(table: str, row: str = "", column: str = "mean") -> Cell:
        return Cell(table, row or f"pretrained at {best[table]:g}", column)

    return [
        Claim(
            "fixed",
            "By fixed features a robust net transfers better than a standard one, at the radius "
            "that is best on held-out images",
            "CIFAR-10 94.81 %, CIFAR-100 79.50 %, ResNet-50 at L2 3; section 3.1",
            Exceeds(cell("fixed"), cell("fixed", "pretrained at 0")),
        ),
        Claim(
            "full",
            "By fine-tuning of all weights it does as well",
            "CIFAR-10 98.27 %, CIFAR-100 87.45 %, ResNet-50 at L2 3; section 3.2",
            Exceeds(cell("full"), cell("full", "pretrained at 0")),
        ),
        Claim(
            "source",
            "Though it is less accurate on its source",
            "ImageNet, ResNet-50: 62.83 % at L2 3, 75.80 % at 0; not published for such sets",
            AllOf(
                tuple(
                    Below(cell(t, "", "source"), cell(t, "pretrained at 0", "source")) for t in best
                )
            ),
        ),
        Claim(
            "robustness",
            "By fixed features it transfers better than a standard net of the same accuracy on the "
            "source, from earlier in its training",
            none,
            Exceeds(cell("fixed"), cell("fixed", "standard/equal accuracy")),
        ),
        Claim(
            "learnt",
            "Features of a standard net transfer better than those of a net that was not trained, "
            "of one trained on shuffled labels, and than the pixels",
            none,
            AllOf(
                tuple(
                    Exceeds(cell("fixed", "pretrained at 0"), cell("fixed", f"standard/{name}"))
                    for name in ("untrained", "shuffled labels", "pixels")
                )
            ),
        ),
        Claim(
            "pretraining",
            "Fine-tuning of a standard net is better than training from scratch",
            none,
            Exceeds(cell("full", "pretrained at 0"), cell("full", "standard/from scratch")),
        ),
        Claim(
            "width",
            "The widest robust net transfers better than the narrowest, by fixed features",
            "section 4.2, in a figure; not published as a number",
            Exceeds(cell("width", high), cell("width", low)),
        ),
        Claim(
            "detail",
            "Of images of less detail the radius that transfers best is larger, chosen in each "
            "seed on held-out images",
            "section 4.3, in figures; not published as a number",
            Exceeds(Cell("best", "less detail", "radius"), Cell("best", "full detail", "radius")),
        ),
    ]


def check(config: Config, parts: Splits) -> None:
    """Refuses sources of other channels, and more images of a class than there are."""
    if config.source not in SOURCES[config.data]:
        known = ", ".join(SOURCES[config.data])
        raise bad_value("source", f"be one of {known} for {config.data}", f"'{config.source}'")
    labels = parts.train.labels
    fewest = int(torch.bincount(labels, minlength=parts.train.classes).min())
    if fewest <= config.shots[-1]:
        raise bad_value(
            "shots",
            f"be below {fewest}, the training images of the rarest class",
            config.shots,
            "Some must be left to choose the radius by.",
        )


EXPERIMENT = Experiment(
    name="salman2020",
    paper="Salman et al. 2020, “Do Adversarially Robust ImageNet Models Transfer Better?” "
    "(arXiv 2007.08489)",
    question="Do robust features transfer better to other images?",
    datasets=tuple(SOURCES),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
    choices=choices,
    check=check,
)
