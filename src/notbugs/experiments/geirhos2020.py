"""Geirhos et al. 2020, "Shortcut learning in deep neural networks".

For each seed: stars and moons, whose place is a shortcut; marks planted in real images, which tell
the label in training, for standard and robust nets, by kind and by L2 norm; and images whose shape
and texture tell different classes.

**Source**: arXiv 2004.07780, figure 2, for stars and moons; Geirhos et al. 2019 (arXiv 1811.12231)
for shape and texture. The planted marks are ours: they put the question of Ilyas et al. 2019 (arXiv
1905.02175), which features a robust net does without, to features that are known.
**Differs from the papers**: small nets and images; texture without style transfer (`cue_conflict`);
marks are planted in images of halved contrast, so that they fit, and nets are trained and attacked
on those: eps there is half of that on the images as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Augment, Splits
from notbugs.experiments.config import config_for as main_config
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Rows
from notbugs.experiments.geirhos2020_claims import claims_of
from notbugs.experiments.geirhos2020_page import COLUMNS, SECTIONS
from notbugs.experiments.geirhos2020_stages import (
    AmongStars,
    CuePictures,
    Cues,
    Dependence,
    Marked,
    MarkPictures,
    ShapeBias,
    Sky,
    StarPictures,
)
from notbugs.experiments.main_models import ROBUST, STANDARD
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import Data, Trained
from notbugs.features.shortcuts import CONTRAST, KINDS, Shortcut
from notbugs.store import AnyStage
from notbugs.training import Adversary, Noise, Recipe

ROLES = (STANDARD, ROBUST)
REMEDIES = (*ROLES, "noise", "crops")
WARMUP = 0.4
"""The share of the epochs in which the adversary grows, as in the main experiment."""
FULL, CONV = "fully connected", "convolutional"


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `stars`, `star_tests`: images of stars and moons, to train and to test; `side`: in pixels
    - `dense`, `conv`: nets for these; `on_stars`: their training
    - `eps`: L2, of robust training and of noise, on images of halved contrast
    - `norms`: L2 norms of the marks, rising; `middle`: at which agreement and remedies vary
    - `agreements`: shares of training images whose mark tells their label, beside 1
    - `net`, `training`: of planted shortcuts and of cues
    - `robust_lr`, `steps`: the learning rate of robust training, and the steps of its PGD
    - `crop`: pixels by which crops move an image
    - `count`: test images whose shape and texture are exchanged; `patch`: side of texture patches
    """

    stars: int = 2000
    star_tests: int = 1000
    side: int = 24
    dense: Net = Net("mlp", (("width", 128), ("depth", 3)))  # noqa: RUF009 (frozen)
    conv: Net = Net("cnn", (("width", 8), ("hidden", 32)))  # noqa: RUF009 (frozen)
    on_stars: Recipe = Recipe(epochs=10, warmup=0.2)  # noqa: RUF009 (frozen)
    eps: float = 0.5
    norms: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    middle: float = 0.5
    agreements: tuple[float, ...] = (0.9,)
    net: Net = Net("cnn", (("width", 8), ("hidden", 32)))  # noqa: RUF009 (frozen)
    training: Recipe = Recipe()  # noqa: RUF009 (frozen)
    robust_lr: float = 0.05
    steps: int = 3
    crop: int = 1
    count: int = 397
    patch: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("stars", "star_tests", "side", "crop", "count", "patch", "steps"):
            check_count(getattr(self, name), name)
        for name in ("eps", "middle", "robust_lr"):
            check_positive(getattr(self, name), name)
        for name in ("norms", "agreements"):
            values = getattr(self, name)
            for value in values:
                check_positive(value, name)
            if not values or list(values) != sorted(set(values)):
                raise bad_value(name, "hold rising numbers", values)
        if self.agreements[-1] >= 1:
            raise bad_value("agreements", "be below 1, which is there anyway", self.agreements)

    @property
    def threat(self) -> str:
        """Of robust training, on images of halved contrast."""
        return f"l2:{self.eps!r}"


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    main = main_config(data, "smoke" if preset == "smoke" else "laptop")
    seeds = 5 if data == "digits" else 3
    config = Config(data, preset, seeds, main.train_size, main.test_size)
    config = replace(config, training=replace(main.standard, epochs=12))
    if data != "digits":
        eps = CONTRAST * main.eps_eval
        norms = tuple(eps * factor for factor in (0.25, 0.5, 1, 2))
        config = replace(config, eps=eps, norms=norms, middle=eps, crop=4, count=1000, patch=4)
    if preset == "smoke":
        tiny, short = Net("mlp", (("width", 16),)), replace(config.training, epochs=2)
        config = replace(config, seeds=1, dense=tiny, conv=tiny, net=tiny, training=short, steps=2)
        config = replace(config, train_size=300, test_size=80, stars=100, star_tests=40, side=12)
        config = replace(config, norms=(config.middle,), count=60)
        config = replace(config, on_stars=replace(config.on_stars, epochs=2))
    return config


def on_stars(config: Config, seed: int, net: Net, places: str) -> Trained:
    """A net trained on stars and moons."""
    sizes = {"train_size": config.stars, "test_size": config.star_tests}
    sky = Sky("stars and moons", "", seed, places=places, side=config.side, **sizes)
    return Trained(sky, net, config.on_stars)


def recipe_of(config: Config, role: str, threat: str) -> Recipe:
    """A training by its name: standard, robust, with noise of the same length, or with crops."""
    standard = config.training
    if role == ROBUST:
        adversary = Adversary(threat, steps=config.steps, eps_warmup=WARMUP)
        return replace(standard, lr=config.robust_lr, adversary=adversary)
    if role == "noise":
        return replace(standard, adversary=Noise(threat, kind="gaussian"), guard=False)
    if role == "crops":
        return replace(standard, augment=Augment(crop_padding=config.crop, padding="reflect"))
    return standard


def on_marks(
    config: Config, seed: int, role: str, shortcut: Shortcut | None, agreement: float = 1.0
) -> Trained:
    """A net trained on images with marks, or on images of halved contrast without."""
    sizes = config.train_size, config.test_size
    view = Marked(config.data, config.digest, seed, *sizes, shortcut=shortcut, agreement=agreement)
    return Trained(view, config.net, recipe_of(config, role, config.threat), role)


def on_images(config: Config, seed: int, role: str) -> Trained:
    """A net trained on the images as they are, robust at the eps that is the same share of them."""
    threat = f"l2:{config.eps / CONTRAST!r}"
    return Trained(Data.of(config, seed), config.net, recipe_of(config, role, threat), role)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    for name, net in ((FULL, config.dense), (CONV, config.conv)):
        for suffix, places in (("", "shortcut"), ("/anywhere", "random")):
            model = on_stars(config, seed, net, places)
            yield Row("stars", name + suffix, seed, AmongStars(model))
    for kind in KINDS:
        yield from _of_kind(config, seed, kind)
    cues = Cues(config.count, config.patch)
    for role in REMEDIES:
        yield Rows(seed, ShapeBias(role, on_images(config, seed, role), cues))
    standard = on_images(config, seed, STANDARD)
    yield Rows(seed, ShapeBias(f"{STANDARD}/untrained", standard, cues, trained=False))


def _of_kind(config: Config, seed: int, kind: str) -> Iterable[Row]:
    """The rows of planted shortcuts of one kind."""
    for role in ROLES:
        plain = on_marks(config, seed, role, None)
        for norm in config.norms:
            mark, name = Shortcut(kind, norm), f"{role}, {kind}"
            model = on_marks(config, seed, role, mark)
            yield Row("norms", f"{name} at {norm:g}", seed, Dependence(model, mark))
            yield Row("norms", f"{name}/unmarked at {norm:g}", seed, Dependence(plain, mark))
    mark = Shortcut(kind, config.middle)
    for role in ROLES:
        for share in (*config.agreements, 1.0):
            model = on_marks(config, seed, role, mark, share)
            yield Row("agreement", f"{role}, {kind} at {share:g}", seed, Dependence(model, mark))
    for role in REMEDIES:
        model = on_marks(config, seed, role, mark)
        yield Row("remedies", f"{kind}, {role}", seed, Dependence(model, mark))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Stars and moons, marks, and images with exchanged cues, of seed 0."""
    sky, data = on_stars(config, 0, config.dense, "shortcut").data, Data.of(config, 0)
    assert isinstance(sky, Sky)
    cues = Cues(config.count, config.patch)
    return [StarPictures(sky), MarkPictures(data, config.middle), CuePictures(data, cues)]


def check(config: Config, parts: Splits) -> None:
    """Refuses patches that do not tile the images."""
    _, height, width = parts.test.shape
    if height % config.patch or width % config.patch:
        sides = f"{height} and {width}"
        raise bad_value("patch", f"divide the sides of the images, {sides}", config.patch)


EXPERIMENT = Experiment(
    name="geirhos2020",
    paper="Geirhos, Jacobsen, Michaelis, Zemel, Brendel, Bethge, Wichmann 2020, “Shortcut learning "
    "in deep neural networks” (arXiv 2004.07780)",
    question="Does robust training keep a net from taking shortcuts, and which?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=lambda config: claims_of(config.norms, config.middle, config.agreements[-1]),
    columns=COLUMNS,
    sections=SECTIONS,
    takes={"digits": 25},
    check=check,
)
