"""Hendrycks et al. 2019, "Natural adversarial examples".

For each seed: the images that a fixed net has wrong, of many candidates that it was not trained on
(adversarial filtration); what other nets make of them, beside equally many at random and those that
a net of another seed has wrong; how many labels may be wrong; calibration and abstention on them;
and the detection of classes that no net has seen.

**Source**: arXiv 1907.07174.
**Differs from the paper**: a small dataset takes the place of ImageNet, so that nets are trained on
few images and the others are the candidates; outliers are images of classes that were held out, and
the hard ones are those of which the net is surest; nobody looked through the filtered images,
so that label noise is estimated.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Augment, Splits
from notbugs.experiments.config import config_for as main_config
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Rows
from notbugs.experiments.hendrycks2019_claims import claims_of
from notbugs.experiments.hendrycks2019_page import COLUMNS, SECTIONS
from notbugs.experiments.hendrycks2019_stages import (
    Candidates,
    Confidence,
    FilteredPictures,
    LabelNoise,
    Outliers,
    Transfer,
    Voters,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.shared import Trained
from notbugs.store import AnyStage
from notbugs.training import Adversary, Noise, Recipe

FILTERS = ("standard", "sibling", "robust", "mlp")
"""The nets whose mistakes are collected; a sibling has other weights at the start."""
JUDGES = (*FILTERS, "robust sibling", "noise", "crops", "linear")
NETS = {"mlp": Net("mlp"), "linear": Net("linear")}


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `few`: training images; all others are candidates; `held_out`: classes that no net sees
    - `changed`: share of the candidates' labels that are changed, to test the estimate of noise
    - `voters`: nearest images that vote; `hard`: share of the outliers that is kept as hard
    - `net`, `training`: of the convolutional nets; others have the same training
    - `eps`, `steps`: L2 of the robust net, and its PGD; `crop`: pixels by which crops move an image
    """

    few: int = 200
    held_out: int = 2
    changed: float = 0.02
    voters: int = 5
    hard: float = 0.3
    net: Net = Net("cnn", (("width", 16), ("hidden", 32)))  # noqa: RUF009 (frozen)
    training: Recipe = Recipe(epochs=60, batch_size=32, warmup=0.2)  # noqa: RUF009 (frozen)
    eps: float = 1.0
    steps: int = 5
    crop: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("few", "held_out", "voters", "steps", "crop"):
            check_count(getattr(self, name), name)
        for name in ("eps", "changed", "hard"):
            check_positive(getattr(self, name), name)
        for name in ("changed", "hard"):
            if getattr(self, name) >= 1:
                raise bad_value(name, "be a share below 1", getattr(self, name))


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    main = main_config(data, "smoke" if preset == "smoke" else "laptop")
    config = Config(data, preset, seeds=5 if data == "digits" else 3, eps=main.eps_eval)
    if data != "digits":
        training = replace(main.standard, epochs=30, lr=0.05, batch_size=64)
        config = replace(config, train_size=12_000, few=1000, crop=2, training=training)
    if preset == "smoke":
        short = replace(config.training, epochs=2)
        config = replace(config, seeds=1, train_size=400, test_size=100, few=100, training=short)
        config = replace(config, net=Net("mlp", (("width", 16),)), steps=2)
    return config


def candidates(config: Config, seed: int, changed: float = 0.0) -> Candidates:
    """The split of a seed."""
    sizes = config.train_size, config.test_size
    held = {"few": config.few, "held_out": config.held_out}
    return Candidates(config.data, config.digest, seed, *sizes, **held, changed=changed)


def model(config: Config, seed: int, role: str) -> Trained:
    """A net by its name in the tables."""
    recipe, threat = config.training, f"l2:{config.eps!r}"
    recipes: Mapping[str, Recipe] = {
        "robust": replace(recipe, adversary=Adversary(threat, steps=config.steps, eps_warmup=0.4)),
        "noise": replace(recipe, adversary=Noise(threat, kind="gaussian"), guard=False),
        "crops": replace(recipe, augment=Augment(crop_padding=config.crop)),
    }
    net = NETS.get(role, config.net)
    chosen = recipes.get(role.removesuffix(" sibling"), recipe)
    return Trained(candidates(config, seed), net, chosen, role)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    nets = {role: model(config, seed, role) for role in JUDGES}
    filters = tuple((role, nets[role]) for role in FILTERS)
    standard = nets["standard"]
    judges = {**nets, "neighbours": Voters(candidates(config, seed), config.voters)}
    for name, judge in judges.items():
        yield Row("transfer", name, seed, Transfer(judge, filters))
    for role, net in filters:
        noise = LabelNoise(net, candidates(config, seed), config.voters)
        yield Row("labels", role, seed, noise)
    noise = LabelNoise(standard, candidates(config, seed, config.changed), config.voters)
    yield Row("labels", "standard, labels changed", seed, noise)
    for name, net in nets.items():
        yield Rows(seed, Confidence(name, net, standard))
        yield Row("outliers", name, seed, Outliers(net, standard, config.hard))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Filtered images of seed 0."""
    return [FilteredPictures(model(config, 0, "standard"))]


def check(config: Config, parts: Splits) -> None:
    """Refuses to hold out all classes but one, and more training images than there are."""
    classes = parts.train.classes
    if config.held_out > classes - 2:
        raise bad_value("held_out", f"leave two of the {classes} classes", config.held_out)
    known = int((parts.train.labels < classes - config.held_out).sum())
    if config.few >= known:
        raise bad_value("few", f"be below the {known} training images of known classes", config.few)


EXPERIMENT = Experiment(
    name="hendrycks2019",
    paper="Hendrycks, Zhao, Basart, Steinhardt, Song 2019, “Natural adversarial examples” "
    "(arXiv 1907.07174)",
    question="Are the images that one net has wrong hard for others, robust nets included?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=lambda config: claims_of(config.changed),
    columns=COLUMNS,
    sections=SECTIONS,
    takes={"digits": 7},
    check=check,
)
