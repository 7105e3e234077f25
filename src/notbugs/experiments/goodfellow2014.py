"""Goodfellow et al. 2014, "Explaining and harnessing adversarial examples".

For each seed: FGSM on nets of several kinds beside noise of its size; the linear explanation, along
lines and against the dimension; logistic regression on two classes; adversarial training with its
controls; whether nets agree; rubbish.

**Source**: arXiv 1412.6572. The published numbers are for MNIST unless they name CIFAR-10.
**Differs from the paper**: fewer epochs and, for them, dropout of 0.2 in place of 0.5; narrower
nets at "laptop", the paper's 240 and 1600 maxout units at "full"; a validation part of a tenth of
the training images; perturbations grow to their size over half of the epochs; rotations and scaled
gradients, whose sizes the paper does not give, are shorter than FGSM's steps: a quarter as long,
and eps at the largest entry; errors under attack are of the first test images.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.experiments import directions, first_order, linearity
from notbugs.experiments.data_views import Resized, TwoClasses
from notbugs.experiments.directions import Cosine, FilterPictures, Filters, Subspace
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Rows
from notbugs.experiments.first_order import (
    Agreement,
    Crossed,
    Epochs,
    Errors,
    FoolingPictures,
    Ratio,
    Rubbish,
    StepPictures,
)
from notbugs.experiments.goodfellow2014_claims import WIDE, claims_of
from notbugs.experiments.goodfellow2014_page import SECTIONS
from notbugs.experiments.linearity import (
    Gain,
    GaussianGain,
    Growth,
    Line,
    LinePicture,
    Logistic,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Data, Trained
from notbugs.store import AnyStage
from notbugs.training import (
    FastGradient,
    HiddenLayer,
    L1Decay,
    Mixed,
    Noise,
    Recipe,
    Rotation,
    ScaledGradient,
    WorstCaseLogistic,
)
from notbugs.training.adversary import AbstractAdversary

KINDS = {
    "softmax": "linear",
    "maxout": "maxout",
    "conv maxout": "conv_maxout",
    "ReLU": "mlp",
    "RBF": "rbf",
}
"""The nets of section 4 to 8, and a ReLU net, by their architectures."""
SHAPES = {"digits": (1, 8), "mnist": (1, 28), "fashion-mnist": (1, 28), "cifar10": (3, 32)}
"""Channels of the images, and their side."""
CROSSED = {
    "on plain": Column("Of the plain net", "its error", unit="%"),
    f"on {WIDE}": Column("Of the trained net", "its error", unit="%"),
}
COSINES = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
ADVERSARIES = ("FGSM", "signs", "uniform", "hidden", "last hidden", "rotation", "scaled gradient")
WARMUP = 0.5
"""The share of the epochs over which perturbations grow, the same for all adversaries."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `shape`: channels of the images, and their side in pixels
    - `eps`: of FGSM and of the noise, Linf; `count`: test images that are attacked
    - `lines`: images of which lines and subspaces are measured
    - `units`, `wide`: of the maxout nets and of the larger ones
    - `members`: maxout nets of the ensemble; `dropout`: of all maxout nets
    - `pair`: the two classes of logistic regression
    - `eps_logistic`, `l1`: strengths of the worst case and of L1 decay that are swept
    - `l1_maxout`: L1 decay of a maxout net
    - `maxout`, `conv`, `linear`, `rbf`: trainings
    """

    shape: tuple[int, int] = (1, 8)
    eps: float = 0.25
    count: int = 1000
    lines: int = 50
    units: int = 120
    wide: int = 240
    members: int = 12
    dropout: float = 0.2
    pair: tuple[int, int] = (3, 7)
    eps_logistic: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25)
    l1: tuple[float, ...] = (1e-4, 1e-3, 2.5e-3, 1e-2)
    l1_maxout: float = 2.5e-3
    maxout: Recipe = Recipe(epochs=60, lr=0.05, warmup=0.1, weight_decay=0.0)  # noqa: RUF009
    conv: Recipe = Recipe(epochs=30, lr=0.05, warmup=0.1)  # noqa: RUF009
    linear: Recipe = Recipe(epochs=60, lr=0.02, weight_decay=0.0)  # noqa: RUF009
    rbf: Recipe = Recipe(epochs=60, lr=0.5, weight_decay=0.0)  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.eps, "eps")
        check_positive(self.l1_maxout, "l1_maxout")
        for name in ("count", "lines", "units", "wide", "members"):
            check_count(getattr(self, name), name)
        for name in ("eps_logistic", "l1"):
            values = getattr(self, name)
            for value in values:
                check_positive(value, name)
            if not values or list(values) != sorted(set(values)):
                raise bad_value(name, "hold rising strengths", values)
        if self.pair[0] == self.pair[1]:
            raise bad_value("pair", "name two classes", self.pair)


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    config = Config(data, preset, seeds=5 if data == "digits" else 3, shape=SHAPES[data])
    if data == "digits":
        config = replace(config, count=397)
    else:
        # At 0.05, at which digits train, maxout nets diverge.
        maxout = replace(config.maxout, epochs=20, lr=0.02)
        linear, rbf = (replace(recipe, epochs=15) for recipe in (config.linear, config.rbf))
        config = replace(config, train_size=20_000, maxout=maxout, linear=linear, rbf=rbf)
        config = replace(config, conv=replace(config.conv, epochs=3, lr=0.02))
    if data == "cifar10":
        config = replace(config, eps=0.1)
    if preset == "full":
        config = replace(config, train_size=None, units=240, wide=1600)
        config = replace(config, maxout=replace(config.maxout, epochs=40))
    if preset == "smoke":
        short = replace(config.maxout, epochs=3)
        conv = replace(config.conv, epochs=1)
        config = replace(config, maxout=short, conv=conv, linear=short, rbf=short, seeds=1)
        config = replace(config, train_size=600, test_size=100, count=40, lines=3)
        config = replace(config, units=12, wide=16, members=2)
        config = replace(config, eps_logistic=(0.05, 0.25), l1=(1e-3, 2.5e-3))
    return config


def net(config: Config, seed: int, name: str, role: str = "standard") -> Trained:
    """A net of one of the kinds, trained on the images as they are."""
    dropout = ("dropout", config.dropout)
    options = {
        "maxout": (("units", config.units), dropout),
        "conv maxout": (("units", 16), ("hidden", 64), dropout),
    }
    recipes = {"maxout": config.maxout, "conv maxout": config.conv, "ReLU": config.maxout}
    recipe = recipes.get(name, config.rbf if name == "RBF" else config.linear)
    made = Net(KINDS[name], options.get(name, ()))
    return Trained(Data.of(config, seed), made, recipe, role)


def adversary(config: Config, kind: str) -> AbstractAdversary:
    """What perturbs the images of a training, by its name in the table."""
    channels, side = config.shape
    quarter = f"l2:{config.eps * side * channels**0.5 / 4:.4g}"  # of the length of FGSM's step
    threat = f"linf:{config.eps!r}"
    made: Mapping[str, AbstractAdversary] = {
        "FGSM": FastGradient(threat, WARMUP),
        "signs": Noise(threat, WARMUP),
        "uniform": Noise(threat, WARMUP, kind="uniform"),
        "hidden": HiddenLayer(threat, WARMUP, layer="trunk.3"),
        "last hidden": HiddenLayer(threat, WARMUP, layer="trunk"),
        "rotation": Rotation(quarter, WARMUP),
        "scaled gradient": ScaledGradient(threat, WARMUP),
    }
    return made[kind]


def trainings(config: Config, seed: int) -> dict[str, Trained]:
    """The maxout net by ways of training it (section 6)."""
    plain = net(config, seed, "maxout")
    wide = replace(plain, net=Net("maxout", (("units", config.wide), ("dropout", config.dropout))))
    # In 2014 nobody stopped where robust accuracy under PGD collapses.
    nets = {"plain": plain}
    for kind in ADVERSARIES:
        perturbed = {"adversary": adversary(config, kind), "objective": Mixed()}
        recipe = replace(config.maxout, guard=False, **perturbed)
        nets[kind] = replace(plain, recipe=recipe)
    decayed = replace(config.maxout, penalties=(L1Decay(config.l1_maxout, only_first=True),))
    nets["L1 decay"] = replace(plain, recipe=decayed)
    nets["wide, plain"] = wide
    watched = replace(nets["FGSM"].recipe, watch_every=1)
    for name, select in ((WIDE, "best"), (f"{WIDE}, by clean error", "best-clean")):
        nets[name] = replace(wide, recipe=replace(watched, select=select))
    return nets


def gains(config: Config, seed: int) -> dict[str, list[tuple[int, Gain | GaussianGain]]]:
    """The gains of linear nets on images of several sizes, and of Gaussian classes."""
    data, (channels, side) = Data.of(config, seed), config.shape
    linear, eps = net(config, seed, "softmax"), config.eps / 4
    found: dict[str, list[tuple[int, Gain | GaussianGain]]] = {"images": [], "Gaussian": []}
    for s in (side // 4, side // 2, side, 2 * side):
        n = channels * s * s
        sizes = data.name, data.digest, seed, data.train_size, data.test_size
        resized = replace(linear, data=Resized(*sizes, side=s))
        found["images"].append((n, Gain(resized, eps, config.count)))
        found["Gaussian"].append((n, GaussianGain(n, seed, eps, config.count)))
    return found


def logistic(config: Config, seed: int) -> dict[str, tuple[Trained, float]]:
    """Logistic regression on two classes, by its penalty; and the worst case it was trained on."""
    data = Data.of(config, seed)
    sizes = data.name, data.digest, seed, data.train_size, data.test_size
    plain = replace(net(config, seed, "softmax"), data=TwoClasses(*sizes, pair=config.pair))
    nets = {"plain": (plain, 0.0)}
    for eps in config.eps_logistic:
        worst = replace(config.linear, objective=WorstCaseLogistic(f"linf:{eps!r}"))
        nets[f"adversarial at {eps:g}"] = replace(plain, recipe=worst), eps
    for weight in config.l1:
        recipe = replace(config.linear, penalties=(L1Decay(weight),))
        nets[f"L1 decay at {weight:g}"] = replace(plain, recipe=recipe), 0.0
    return nets


def several(config: Config, seed: int) -> dict[str, Trained]:
    """A linear net of all classes, trained adversarially or with L1 decay."""
    plain, nets = net(config, seed, "softmax"), dict[str, Trained]()
    for eps in config.eps_logistic:
        fast = FastGradient(f"linf:{eps!r}")
        nets[f"adversarial at {eps:g}"] = replace(
            plain, recipe=replace(config.linear, adversary=fast, guard=False)
        )
    for weight in config.l1:
        decayed = replace(config.linear, penalties=(L1Decay(weight),))
        nets[f"L1 decay at {weight:g}"] = replace(plain, recipe=decayed)
    return nets


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    nets = {name: net(config, seed, name) for name in KINDS}
    eps, count = config.eps, config.count
    for name, one in nets.items():
        yield Row("kinds", name, seed, Errors((one,), eps, count))
        yield Rows(seed, Line(name, one, eps, config.lines))
        yield Row("rubbish", name, seed, Rubbish(one, eps, count))
    for name, found in gains(config, seed).items():
        for n, gain in found:
            yield Row("dimension", f"{name} at {n}", seed, gain)
        yield Row("growth", name, seed, Growth(tuple(found)))
    for name, (one, trained_eps) in logistic(config, seed).items():
        yield Row("logistic", name, seed, Logistic(one, trained_eps, eps, count))
    for name, one in several(config, seed).items():
        yield Row("several", name, seed, Errors((one,), eps, count))
    yield from _of_trainings(config, seed)
    maxout = nets["maxout"]
    twin = net(config, seed, "maxout", "other weights")
    for name, one in {**nets, "maxout, other weights": twin}.items():
        if one != maxout:
            yield Row("agreement", f"maxout, {name}", seed, Agreement(maxout, one, eps, count))
    for name in ("maxout", "RBF"):
        pair = Agreement(nets["softmax"], nets[name], eps, count)
        yield Row("agreement", f"softmax, {name}", seed, pair)
    for name, other in (("softmax", nets["maxout"]), ("maxout", twin), ("RBF", nets["maxout"])):
        yield Row("subspace", name, seed, Subspace(nets[name], other, eps, config.lines))
    for cosine in COSINES:
        yield Row("angle", f"maxout at {cosine:g}", seed, Cosine(maxout, cosine, eps, count))
    others = [net(config, seed, "maxout", f"member {i}") for i in range(2, config.members)]
    members = (maxout, twin, *others)[: config.members]
    judges = (("ensemble_error", members),)
    for name, source in (("all of it", members), ("one member", members[:1])):
        yield Row("ensemble", name, seed, Crossed(source, judges, eps, count))


def _of_trainings(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows about adversarial training."""
    nets, eps, count = trainings(config, seed), config.eps, config.count
    errors = {name: Errors((one,), eps, count) for name, one in nets.items()}
    for name, measured in errors.items():
        yield Row("training", name, seed, measured)
        if name in ADVERSARIES:
            yield Row("training", name, seed, Ratio(measured, errors["plain"], "fgsm"))
    both = {name: nets[name] for name in ("plain", WIDE)}
    for name, one in both.items():
        judges = tuple((f"on {other}", (judge,)) for other, judge in both.items())
        yield Row("crossed", f"of {name}", seed, Crossed((one,), judges, eps, count))
    for name in ("plain", "FGSM", "signs"):
        yield Row("filters", name, seed, Filters(nets[name]))
    yield Rows(seed, Epochs("wide", nets[WIDE]))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Steps, lines, filters and fooling images of seed 0."""
    nets = trainings(config, 0)
    filters = tuple((name, nets[name]) for name in ("plain", "FGSM", "signs"))
    return [
        StepPictures(net(config, 0, "maxout"), config.eps, "maxout"),
        StepPictures(logistic(config, 0)["plain"][0], config.eps, "logistic"),
        LinePicture(net(config, 0, "maxout")),
        FilterPictures(filters),
        FoolingPictures(net(config, 0, "conv maxout"), config.eps),
    ]


def check(config: Config, parts: Splits) -> None:
    """Refuses another shape, and classes that the images do not have."""
    channels, side, _ = parts.train.shape
    if config.shape != (channels, side):
        raise bad_value("shape", f"be that of the images, {(channels, side)}", config.shape)
    for label in config.pair:
        if not 0 <= label < parts.train.classes:
            raise bad_value("pair", f"name classes of 0..{parts.train.classes - 1}", label)


EXPERIMENT = Experiment(
    name="goodfellow2014",
    paper="Goodfellow, Shlens, Szegedy 2014, “Explaining and harnessing adversarial examples” "
    "(arXiv 1412.6572)",
    question="Are nets fooled because they are too linear, and does training on the examples help?",
    datasets=tuple(SHAPES),
    presets=("smoke", "laptop", "full"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=lambda config: claims_of(config.eps_logistic, config.l1_maxout),
    columns={**first_order.COLUMNS, **linearity.COLUMNS, **directions.COLUMNS, **CROSSED},
    sections=SECTIONS,
    takes={"mnist": 34},
    check=check,
)
